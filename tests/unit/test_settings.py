"""The environment: read once, typed, and refused in one sentence."""

import importlib
import pickle
import re
from pathlib import Path

import pytest

from actors import settings
from actors.providers import PROVIDERS, choice
from actors.settings import Refused, Settings
from scheduling import jobs


def test_the_defaults_need_no_environment(tmp_path):
    read = settings.read()
    assert read.volaris_home == tmp_path / ".volaris"
    assert read.volaris_host == "127.0.0.1"
    assert not read.has_vendor_keys


def test_nested_names_and_aliases(monkeypatch):
    monkeypatch.setenv("VOLARIS_BUDGET__IV_COMPUTER", "150:200")
    monkeypatch.setenv("VOLARIS_JOB__PRICES", "5")
    monkeypatch.setenv("PORT", "1234")
    read = settings.read()
    assert read.volaris_budget == {"iv_computer": "150:200"}
    assert read.volaris_job == {"prices": "5"}
    assert read.volaris_api_port == 1234


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("VOLARIS_API_PORT=1111\nSCHWAB_APP_KEY=from-file\n")
    monkeypatch.setenv("VOLARIS_API_PORT", "2222")
    read = settings.read()
    assert read.volaris_api_port == 2222
    assert read.schwab_app_key.get_secret_value() == "from-file"


def test_the_example_tells_every_setting_with_its_default(monkeypatch, tmp_path):
    text = (Path(__file__).parents[2] / ".env.example").read_text()
    given = re.sub(r"^#(?=[A-Z])", "", text, flags=re.MULTILINE)
    names = set(re.findall(r"^([A-Z0-9_]+)=", given, re.MULTILINE))
    told = {f for f in Settings.model_fields if not Settings.model_fields[f].exclude}
    assert {name for name in told if not any(n.startswith(name.upper()) for n in names)} == set()
    bare = settings.read()
    (tmp_path / ".env").write_text(given)
    read = settings.read()
    for name in told:
        if not isinstance(getattr(bare, name), dict):
            assert getattr(read, name) == getattr(bare, name), name
    assert read.volaris_limit["tiingo"] == "50/h 1000/day 1GB/month 500symbols/month"
    choice.check(read)
    jobs.check(read)
    for vendor, limits in read.volaris_limit.items():
        module, _, adapter = PROVIDERS[vendor].partition(":")
        assert getattr(importlib.import_module(module), adapter).limits == limits


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("VOLARIS_API_PORT", "99999", "VOLARIS_API_PORT: .*65535"),
        ("VOLARIS_API_PORT", "http", "VOLARIS_API_PORT: "),
        (
            "SCHWAB_BASE_URL",
            "http://example.com",
            "SCHWAB_BASE_URL: must be https:// or a loopback",
        ),
        ("SCHWAB_BASE_URL", "http://localhost.evil.example", "SCHWAB_BASE_URL: must be https://"),
        ("SCHWAB_BASE_URL", "http://127.0.0.1@evil.example", "SCHWAB_BASE_URL: must be https://"),
        ("VOLARIS_BARS_1M_DAYS", "0", "VOLARIS_BARS_1M_DAYS: "),
        ("VOLARIS_MARKET_HOURS", "never", "VOLARIS_MARKET_HOURS: "),
    ],
)
def test_a_wrong_value_names_its_setting(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=said):
        settings.read()


def test_an_empty_value_is_no_value(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "")
    assert settings.read().database_url is None


def test_secrets_do_not_show(monkeypatch):
    monkeypatch.setenv("SCHWAB_SECRET_KEY", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    read = settings.read()
    assert "hunter2" not in repr(read) + str(read)


def test_settings_cross_processes_whole():
    one = Settings(schwab_app_key="k", volaris_budget={"a": "1:2"})
    assert pickle.loads(pickle.dumps(one)) == one


def test_the_sandbox_never_closes_and_a_person_decides_over_both():
    assert not Settings().market_always_open
    assert Settings(sandbox_url="http://127.0.0.1:1").market_always_open
    assert not Settings(
        sandbox_url="http://127.0.0.1:1", volaris_market_hours="nyse"
    ).market_always_open
