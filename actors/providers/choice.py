"""Which vendor is asked first for what: the order of preference per kind of data, and its setting."""

from actors.providers import PROVIDERS
from actors.providers.plan import read
from actors.providers.vendor import Kind
from actors.settings import Refused, Settings

# Consolidated and in real time before partial or late, many symbols a request before one.
USUAL = {
    Kind.QUOTES: ("schwab", "polygon", "alpaca", "tiingo", "finnhub"),
    Kind.BARS: ("alpaca", "schwab", "polygon", "tiingo", "databento", "finnhub"),
    Kind.CHAIN: ("schwab", "polygon", "alpaca"),
    Kind.MOVERS: ("schwab", "alpaca", "polygon"),
    Kind.PROFILE: ("finnhub", "polygon", "schwab", "tiingo"),
    Kind.NEWS: ("finnhub", "alpaca", "polygon", "tiingo"),
    Kind.RECOMMENDATIONS: ("finnhub",),
    Kind.EARNINGS: ("finnhub",),
    Kind.HOURS: ("schwab", "alpaca", "polygon", "finnhub"),
    Kind.CONSTITUENTS: ("sp500",),
}

JUDGES = ("polygon",)  # whose stories are said to be positive, neutral or negative


def preference(settings: Settings, kind: Kind) -> tuple[str, ...]:
    """Return every vendor in the order in which it is asked: the setting's, the usual one's, the rest."""
    given = [name.strip().lower() for name in settings.volaris_prefer.get(kind, "").split(",")]
    return tuple(
        name
        for name in dict.fromkeys((*given, *USUAL.get(kind, ()), *PROVIDERS))
        if name in PROVIDERS
    )


def check(settings: Settings) -> None:
    """Refuse limits and preferences that cannot be read, with the setting's name."""
    for vendor, text in settings.volaris_limit.items():
        name = f"VOLARIS_LIMIT__{vendor.upper()}"
        if vendor not in PROVIDERS:
            raise Refused(f"{name}: there is no such vendor; there are {', '.join(PROVIDERS)}")
        try:
            read(text)
        except ValueError as e:
            raise Refused(f"{name}: {e}") from None
    for kind, text in settings.volaris_prefer.items():
        name = f"VOLARIS_PREFER__{kind.upper()}"
        if kind not in tuple(Kind):
            raise Refused(f"{name}: there is no such kind of data; there are {', '.join(Kind)}")
        for word in text.split(","):
            if word.strip().lower() not in PROVIDERS:
                known = ", ".join(PROVIDERS)
                raise Refused(
                    f"{name}: write vendors with commas between, of {known}; was {text!r}"
                )
