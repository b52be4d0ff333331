"""The environment, read once and typed; a wrong value ends the start with a sentence.

The boot program reads `.env` and the environment, settles what was left open (ports, the embedded
server's address, the sandbox's URLs) and hands the result to every actor, so that the whole tree
runs on one and the same set of values.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from actors.spec import Budget, Child, Intensity, mib

CONSTITUENTS = "/datasets/s-and-p-500-companies/main/data/constituents.csv"
EX_CONFIG = 78  # sysexits.h: the exit code of "your configuration is wrong"


class Refused(Exception):
    """The start is refused; the message is one sentence that says what to change."""


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or not (parts.scheme == "https" or loopback):
        raise ValueError(f"must be https:// or a loopback http:// address, was {url!r}")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Port = Annotated[int, Field(ge=0, le=65535)]
Secret = SecretStr | None


class Settings(BaseModel):
    """Every setting of Volaris; the names are those of `.env.example`, upper-cased."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    # Where things are
    volaris_home: Path = Path(".volaris")
    database_url: Secret = None
    ray_address: str | None = None

    # What listens, always on loopback unless VOLARIS_HOST says otherwise; 0 = any free port
    volaris_host: str = "127.0.0.1"
    volaris_api_port: Port = Field(8000, validation_alias=AliasChoices("VOLARIS_API_PORT", "PORT"))
    volaris_dashboard: bool = True
    volaris_dashboard_port: Port = 8265
    volaris_sandbox_port: Port = 8900
    volaris_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # The tree: VOLARIS_BUDGET__<CHILD>=soft:hard in MiB; VOLARIS_PLACE__<CHILD>=a resource of some Ray node;
    # VOLARIS_JOB__<JOB>=seconds, a cron line or "off"
    volaris_budget: dict[str, str] = {}
    volaris_place: dict[str, str] = {}
    volaris_job: dict[str, str] = {}
    volaris_young_seconds: float = Field(60.0, ge=0, le=3600)
    volaris_stable_seconds: float = Field(600.0, ge=0, le=86_400)
    volaris_intensity: str = Field("5:60", pattern=r"^[1-9]\d{0,5}:[1-9]\d{0,5}$")
    volaris_trace_memory: bool = False  # note where memory is allocated; slow, for finding a leak
    volaris_record: bool = False  # write down what the root judges, for `volaris replay`
    volaris_object_store_mb: int = Field(96, ge=80, le=65536)
    volaris_memory_mb: int | None = Field(None, ge=256)  # what may be used; None = the machine's

    # Data
    volaris_market_hours: Literal["nyse", "always"] | None = (
        None  # None = nyse, always in the sandbox
    )
    volaris_bars_1m_days: int = Field(5, ge=1, le=60)
    volaris_secret_key: Secret = None  # seals OAuth tokens; None = a key file in the home

    # Vendors
    schwab_base_url: BaseUrl = "https://api.schwabapi.com"
    schwab_app_key: Secret = None
    schwab_secret_key: Secret = None
    schwab_refresh_token: Secret = None
    schwab_redirect_uri: str = "https://127.0.0.1:8182/"
    tiingo_base_url: BaseUrl = "https://api.tiingo.com"
    tiingo_api_key: Secret = None
    alpaca_base_url: BaseUrl = "https://data.alpaca.markets"
    alpaca_trading_url: BaseUrl = "https://paper-api.alpaca.markets"  # clock, calendar, contracts
    alpaca_api_key: Secret = None
    alpaca_api_secret: Secret = None
    alpaca_feed: Literal["iex", "sip", "delayed_sip"] = "iex"
    polygon_base_url: BaseUrl = "https://api.massive.com"
    polygon_api_key: Secret = None
    finnhub_base_url: BaseUrl = "https://finnhub.io"
    finnhub_api_key: Secret = None
    databento_base_url: BaseUrl = "https://hist.databento.com"
    databento_api_key: Secret = None
    databento_dataset: str = Field("EQUS.MINI", pattern=r"^[A-Z]{3,5}\.[A-Z0-9]{2,12}$")
    sp500_url: BaseUrl = f"https://raw.githubusercontent.com{CONSTITUENTS}"
    # VOLARIS_LIMIT__<VENDOR>="50/h 1000/day 1GB/month"; VOLARIS_PREFER__<KIND>=schwab,alpaca
    volaris_limit: dict[str, str] = {}
    volaris_prefer: dict[str, str] = {}

    # Settled by the boot program, not by the environment
    boot_id: str = Field("", exclude=True, validation_alias="settled_boot_id")
    sandbox_url: str | None = Field(None, exclude=True, validation_alias="settled_sandbox_url")
    api_handover: Path | None = Field(None, exclude=True, validation_alias="settled_handover")

    @field_validator("volaris_home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator(
        "volaris_budget", "volaris_place", "volaris_job", "volaris_limit", "volaris_prefer"
    )
    @classmethod
    def _lower(cls, table: dict[str, str]) -> dict[str, str]:
        return {name.lower(): value for name, value in table.items()}

    def budget(self, child: Child) -> Budget:
        """Return the child's budget: its row in the tree, or `VOLARIS_BUDGET__<CHILD>=soft:hard` (MiB)."""
        given = self.volaris_budget.get(child.id)
        if given is None:
            return child.memory
        try:
            soft, hard = (int(part) for part in given.split(":"))
            return mib(soft, hard)
        except ValueError as e:
            why = str(e) if "below hard" in str(e) else f"write soft:hard in MiB, was {given!r}"
            raise Refused(f"VOLARIS_BUDGET__{child.id.upper()}: {why}") from None

    def settled(self, child: Child) -> Child:
        """Return the child's row with what the settings change of it."""
        restarts, seconds = (int(part) for part in self.volaris_intensity.split(":"))
        return replace(
            child,
            memory=self.budget(child),
            place=self.volaris_place.get(child.id, child.place),
            young=self.volaris_young_seconds,
            stable_after=self.volaris_stable_seconds,
            intensity=Intensity(restarts, seconds),
        )

    @property
    def market_always_open(self) -> bool:
        """Tell whether market hours are to be ignored (the sandbox's market never closes)."""
        return (self.volaris_market_hours or ("always" if self.sandbox_url else "nyse")) == "always"

    def limits_of(self, vendor: str, usual: str) -> str:
        """Return the limits of a vendor's plan: `VOLARIS_LIMIT__<VENDOR>`, or the usual ones."""
        return self.volaris_limit.get(vendor, usual)

    @property
    def has_vendor_keys(self) -> bool:
        """Tell whether any market-data vendor can be asked."""
        return any(
            key is not None
            for key in (
                self.schwab_app_key,
                self.tiingo_api_key,
                self.alpaca_api_key,
                self.polygon_api_key,
                self.finnhub_api_key,
                self.databento_api_key,
            )
        )


def read(**given: Any) -> Settings:
    """Return the settings of this process; a wrong one is a `Refused` that names it.

    pydantic-settings is imported here because only the boot program needs it: it would cost every
    actor 4.5 MB.
    """
    from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

    class Environment(BaseSettings, Settings):
        model_config = SettingsConfigDict(
            env_file=".env",
            env_nested_delimiter="__",
            env_ignore_empty=True,
            extra="ignore",
            frozen=True,
            populate_by_name=True,
        )

    try:
        return Settings.model_construct(**dict(Environment(**given)))
    except ValidationError as e:
        first = e.errors()[0]
        name = "__".join(str(part) for part in first["loc"]).upper()
        raise Refused(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as e:
        found = re.search(r'field "(\w+)"', str(e))
        name = found[1].upper() if found else "a setting"
        raise Refused(f"{name}: write {name}__<NAME>=value, one setting for each name") from None
