"""Schwab's chains in the sandbox: by raw requests, as recorded answers have them, and through our own adapter."""

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from actors.domain.chains import read_occ
from actors.domain.models import Ranking, Timeframe
from actors.providers.base import Denied, Malformed, RateLimited, Unavailable, Unsupported
from actors.providers.http import Tools
from actors.providers.schwab import Schwab
from actors.settings import Settings
from sandbox.app import build
from sandbox.clock import Clock

RECORDED = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "schwab"
)
NOON = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # a Tuesday; 12:00 in New York
SATURDAY = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
THIRD_FRIDAY = "2026-12-18"
DATA = "/schwab/marketdata/v1"
SITE = build(7, clock=Clock(NOON, speed=0))


class Nowhere:
    """A store of logins that keeps none, and a seal that hides nothing."""

    async def load(self, vendor):
        return None

    async def save(self, vendor, sealed):
        pass

    def seal(self, plain):
        return plain

    def open(self, sealed):
        return sealed


@pytest.fixture
async def client():
    """Give a client of the sandbox, and leave that as it was found."""
    transport = httpx.ASGITransport(SITE)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        yield client
        await client.delete("/control/faults")
        await client.post("/control/clock", json={"at": NOON.isoformat(), "hours": "always"})


@pytest.fixture
async def schwab(client):
    """Give a function that asks Schwab's market data with a good token."""
    form = {"grant_type": "refresh_token", "refresh_token": "sandbox-refresh-token"}
    answer = await client.post("/schwab/v1/oauth/token", data=form, auth=("key", "secret"))
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def ask(path, **params):
        return await client.get(DATA + path, params=params or None, headers=headers)

    return ask


@pytest.fixture
async def vendor():
    """Give our adapter, wired to the sandbox."""
    settings = Settings(
        schwab_app_key=SecretStr("app-key"),
        schwab_secret_key=SecretStr("app-secret"),
        schwab_refresh_token=SecretStr("sandbox-refresh-token"),
        schwab_base_url="http://localhost/schwab",
        volaris_limit={"schwab": "6000/min"},
    )
    transport = httpx.ASGITransport(SITE)
    tools = Tools(Nowhere(), Nowhere, transport=transport, now=lambda: NOON)
    vendor = Schwab.of(settings, tools)
    await vendor.open()
    yield vendor
    await vendor.close()


def soon():
    return time.monotonic() + 60


def contracts_of(body):
    for side in ("callExpDateMap", "putExpDateMap"):
        for key, strikes in body[side].items():
            for strike, listed in strikes.items():
                for contract in listed:
                    yield side, key, strike, contract


# Raw requests


async def test_a_chain_is_laid_out_as_schwab_lays_it_out(schwab):
    body = (await schwab("/chains", symbol="AAPL")).json()
    told = list(contracts_of(body))
    assert body["status"] == "SUCCESS"
    assert body["numberOfContracts"] == len(told) > 1_500
    assert (body["symbol"], body["isIndex"], body["interestRate"]) == ("AAPL", False, 4.25)
    for side, key, strike, contract in told[::13]:
        root, day, call, number = read_occ(contract["symbol"])
        assert side == ("callExpDateMap" if call else "putExpDateMap")
        assert contract["putCall"] == ("CALL" if call else "PUT")
        assert key == f"{day}:{(day - NOON.date()).days}"
        assert (strike, contract["strikePrice"]) == (str(number), number)
        assert contract["daysToExpiration"] == (day - NOON.date()).days
        assert contract["expirationDate"][:10] == day.isoformat()
        assert (contract["optionRoot"], root) == ("AAPL", "AAPL")
        assert contract["mark"] == pytest.approx((contract["bid"] + contract["ask"]) / 2, abs=0.001)


async def test_a_chain_stands_on_the_same_price_as_a_quote_and_the_truth(client, schwab):
    chain = (
        await schwab("/chains", symbol="KO", strikeCount=1, includeUnderlyingQuote="true")
    ).json()
    quote = (await schwab("/quotes", symbols="KO")).json()["KO"]["quote"]
    truth = (await client.get("/control/truth/KO")).json()
    assert chain["underlyingPrice"] == quote["lastPrice"] == truth["options"]["spot"]
    assert chain["underlying"]["bid"] == quote["bidPrice"]
    assert chain["underlying"]["close"] == quote["closePrice"]
    expirations = (await schwab("/expirationchain", symbol="KO")).json()["expirationList"]
    assert [e["expirationDate"] for e in expirations] == [
        row["expiration"] for row in truth["options"]["term"]
    ]
    dates = [key.partition(":")[0] for key in chain["putExpDateMap"]]
    assert dates == [e["expirationDate"] for e in expirations]


@pytest.mark.parametrize(
    ("params", "holds"),
    [
        ({"contractType": "PUT"}, lambda c, _: c["putCall"] == "PUT"),
        ({"contractType": "CALL"}, lambda c, _: c["putCall"] == "CALL"),
        ({"range": "ITM"}, lambda c, _: c["inTheMoney"]),
        ({"range": "OTM"}, lambda c, _: not c["inTheMoney"]),
        ({"range": "NTM"}, lambda c, spot: abs(c["strikePrice"] / spot - 1) < 0.06),
        ({"range": "SAK"}, lambda c, spot: c["strikePrice"] > spot),
        ({"range": "SBK"}, lambda c, spot: c["strikePrice"] < spot),
        ({"expMonth": "JAN"}, lambda c, _: c["expirationDate"][5:7] == "01"),
        ({"fromDate": "2027-01-01"}, lambda c, _: c["expirationDate"] > "2027"),
        ({"toDate": THIRD_FRIDAY}, lambda c, _: c["expirationDate"][:10] <= THIRD_FRIDAY),
        (
            {"fromDate": THIRD_FRIDAY, "toDate": THIRD_FRIDAY},
            lambda c, _: c["daysToExpiration"] == 24,
        ),
        ({"strike": "320"}, lambda c, _: c["strikePrice"] == 320),
        ({"optionType": "S"}, lambda c, _: not c["nonStandard"]),
    ],
)
async def test_a_query_narrows_a_chain(schwab, params, holds):
    whole = (await schwab("/chains", symbol="AAPL")).json()
    some = (await schwab("/chains", symbol="AAPL", **params)).json()
    wanted = {c["symbol"] for *_, c in contracts_of(whole) if holds(c, whole["underlyingPrice"])}
    found = {c["symbol"] for *_, c in contracts_of(some)}
    if params.get("range") == "NTM":
        assert found
        assert found <= wanted
    else:
        assert found == wanted
    assert some["numberOfContracts"] == len(found) > 0


async def test_strikes_are_counted_around_the_money(schwab):
    body = (await schwab("/chains", symbol="AAPL", strikeCount=4)).json()
    for strikes in (*body["callExpDateMap"].values(), *body["putExpDateMap"].values()):
        assert len(strikes) == 4
        away = [abs(float(strike) - body["underlyingPrice"]) for strike in strikes]
        assert max(away) < 60


@pytest.mark.parametrize("symbol", ["$SPX", "SPY", "QQQ"])
async def test_the_gateway_gives_up_on_the_chains_of_giants(schwab, symbol):
    answer = await schwab("/chains", symbol=symbol)
    assert answer.status_code == 502
    assert answer.json()["fault"]["detail"]["errorcode"] == "protocol.http.TooBigBody"
    window = await schwab("/chains", symbol=symbol, fromDate="2026-11-25", toDate="2026-11-30")
    assert window.status_code == 200
    assert 1_000_000 < len(window.content) < 10_000_000
    assert len(window.json()["callExpDateMap"]) == 3


async def test_morning_and_evening_share_a_date_and_strikes(schwab):
    day = {"fromDate": THIRD_FRIDAY, "toDate": THIRD_FRIDAY}
    body = (await schwab("/chains", symbol="$SPX", **day)).json()
    assert list(body["callExpDateMap"]) == list(body["putExpDateMap"]) == [f"{THIRD_FRIDAY}:24"]
    [both] = [
        listed
        for listed in body["callExpDateMap"][f"{THIRD_FRIDAY}:24"].values()
        if len(listed) == 2
    ][:1]
    assert [c["optionRoot"] for c in both] == ["SPX", "SPXW"]
    assert [c["settlementType"] for c in both] == ["A", "P"]
    assert {c["exerciseType"] for c in both} == {"E"}
    ends = [datetime.fromtimestamp(c["lastTradingDay"] / 1000, UTC) for c in both]
    assert ends[1] - ends[0] == timedelta(days=1)


async def test_what_cannot_be_priced_is_said_in_both_ways(schwab):
    body = (await schwab("/chains", symbol="AAPL")).json()
    told = [contract for *_, contract in contracts_of(body)]
    blank = [c for c in told if c["volatility"] in (-999.0, "NaN")]
    assert {c["volatility"] for c in blank} == {-999.0, "NaN"}
    assert len(blank) < 0.4 * len(told)
    for name in ("delta", "gamma", "theta", "vega", "rho", "theoreticalOptionValue"):
        assert {c[name] for c in blank} == {-999.0}
        assert all(c[name] != -999.0 for c in told if c not in blank)


async def test_a_closed_market_prices_nothing_that_nobody_bids_for(client, schwab):
    await client.post("/control/clock", json={"at": SATURDAY.isoformat(), "hours": "nyse"})
    told = [c for *_, c in contracts_of((await schwab("/chains", symbol="F")).json())]
    idle = [c for c in told if c["bid"] == 0]
    assert idle
    assert all(c["delta"] == -999.0 for c in idle)


async def test_nothing_is_an_answer_too(schwab):
    for symbol, status in (("NOPE", "FAILED"), ("$DJI", "FAILED"), ("BRK.B", "FAILED")):
        answer = await schwab("/chains", symbol=symbol)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["callExpDateMap"]) == (status, {})
    none = (
        await schwab("/chains", symbol="AAPL", fromDate="2026-11-28", toDate="2026-11-29")
    ).json()
    assert (none["status"], none["numberOfContracts"]) == ("NO_DATA", 0)
    assert (await schwab("/chains", symbol="AAPL", optionType="NS")).json()["status"] == "NO_DATA"
    assert (await schwab("/expirationchain", symbol="NOPE")).json()["expirationList"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "symbol"),
        ({"symbol": "AAPL", "contractType": "BOTH"}, "contractType"),
        ({"symbol": "AAPL", "range": "FAR"}, "range"),
        ({"symbol": "AAPL", "strategy": "BUTTERFLY"}, "strategy"),
        ({"symbol": "AAPL", "fromDate": "tomorrow"}, "fromDate"),
        ({"symbol": "AAPL", "toDate": "2026-13-01"}, "toDate"),
        ({"symbol": "AAPL", "fromDate": "2027-01-01", "toDate": "2026-12-01"}, "fromDate"),
        ({"symbol": "AAPL", "strikeCount": "few"}, "strikeCount"),
        ({"symbol": "AAPL", "strikeCount": "0"}, "strikeCount"),
        ({"symbol": "AAPL", "includeUnderlyingQuote": "maybe"}, "includeUnderlyingQuote"),
        ({"symbol": "AAPL", "expMonth": "JUNE"}, "expMonth"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(schwab, params, field):
    answer = await schwab("/chains", **params)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["source"]["parameter"] == [field]


async def test_chains_need_a_token(client):
    for path in ("/chains", "/expirationchain"):
        assert (await client.get(DATA + path, params={"symbol": "AAPL"})).status_code == 401


async def test_a_contract_is_quoted_as_its_chain_tells(schwab):
    body = (await schwab("/chains", symbol="BRK/B", strikeCount=2)).json()
    told = {contract["symbol"]: contract for *_, contract in contracts_of(body)}
    unlisted = "AAPL  261218C00000010"
    quotes = (await schwab("/quotes", symbols=",".join([*told, unlisted, "KO"]))).json()
    assert quotes.keys() == {*told, "KO", "errors"}
    assert quotes["errors"] == {"invalidSymbols": [unlisted]}
    for symbol, contract in told.items():
        quote = quotes[symbol]["quote"]
        assert (quote["bidPrice"], quote["askPrice"]) == (contract["bid"], contract["ask"])
        assert quote["openInterest"] == contract["openInterest"]
        assert quote["delta"] == pytest.approx(contract["delta"], abs=0.001)
        assert quotes[symbol]["reference"]["underlying"] == "BRK/B"


def paths(value, at=""):
    """Return every path of a JSON value with the types found there; whole numbers are numbers."""
    name = "number" if isinstance(value, int | float) and not isinstance(value, bool) else None
    found = {at: {name or type(value).__name__}}
    inner = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = [("[]", part) for part in value]
    for key, part in inner:
        for path, types in paths(part, f"{at}.{key}").items():
            found.setdefault(path, set()).update(types)
    return found


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded payloads in {RECORDED}")
@pytest.mark.parametrize(
    ("name", "symbol"),
    [("chain_AAPL_2025-01-16.json", "AAPL"), ("chain_SPX_2025-05-20.json", "$SPX")],
)
async def test_a_chain_has_the_shape_of_a_recorded_one(schwab, name, symbol):
    theirs = json.loads((RECORDED / name).read_text())
    day = {"fromDate": THIRD_FRIDAY, "toDate": THIRD_FRIDAY}
    ours = (await schwab("/chains", symbol=symbol, strikeCount=2, **day)).json()

    def parts(body):
        contracts = [c for *_, c in contracts_of(body)]
        del body["callExpDateMap"], body["putExpDateMap"]
        return paths(body), paths(contracts[:1]), list(contracts[0])

    head, contract, order = parts(ours)
    assert (head, contract) == parts(theirs)[:2]
    if symbol == "AAPL":  # the other was written anew by another program
        assert set(order) == set(parts(json.loads((RECORDED / name).read_text()))[2])


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded payloads in {RECORDED}")
@pytest.mark.parametrize(
    "name", ["meta_option_quote.json", "quote_NVDA_option_250307P00095000.json"]
)
async def test_a_contract_has_the_shape_of_a_recorded_one(schwab, name):
    theirs = json.loads((RECORDED / name).read_text())
    symbol = "AAPL  261218P00320000"
    ours = (await schwab("/quotes", symbols=symbol)).json()
    assert paths(ours[symbol]) == paths(next(iter(theirs.values())))


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded payloads in {RECORDED}")
@pytest.mark.parametrize(
    "name", ["option_expiration_chain.json", "schwabdev_docs_option_expiration_chain.json"]
)
async def test_expirations_have_the_shape_of_recorded_ones(schwab, name):
    theirs = json.loads((RECORDED / name).read_text())
    ours = (await schwab("/expirationchain", symbol="SPY")).json()
    assert paths(ours["expirationList"]) == paths(theirs["expirationList"])
    kinds = {row["expirationType"] for row in ours["expirationList"]}
    assert kinds == {"S", "W", "M", "Q"}


# Through our adapter


@pytest.mark.parametrize("symbol", ["AAPL", "BRK.B", "F"])
async def test_the_adapter_reads_a_whole_chain(client, vendor, symbol):
    truth = (await client.get(f"/control/truth/{symbol}")).json()["options"]
    chain = await vendor.chain(symbol, soon())
    assert chain.symbol == symbol
    assert chain.spot == truth["spot"]
    assert set(chain.expiration.astype(str).tolist()) == {r["expiration"] for r in truth["term"]}
    known = ~np.isnan(chain.iv)
    assert known.mean() > 0.6
    assert 0.05 < np.median(chain.iv[known]) < 1.5
    assert (chain.bid >= 0).all()
    assert chain.standard.all()
    assert len(set(chain.contract.tolist())) == len(chain)


async def test_the_adapter_takes_a_giant_in_windows(client, vendor):
    await client.post("/control/requests/reset")
    chain = await vendor.chain("SPX", soon())
    asked = (await client.get("/control/requests")).json()["vendors"]["schwab"]
    assert asked["paths"]["/marketdata/v1/expirationchain"] == 1
    assert 5 <= asked["paths"]["/marketdata/v1/chains"] <= 12
    assert "502" not in asked["statuses"]
    assert len(chain) > 15_000
    assert len(set(chain.contract.tolist())) == len(chain)
    roots = {contract[:6].strip() for contract in chain.contract.tolist()}
    assert roots == {"SPX", "SPXW"}


async def test_the_adapter_halves_what_it_did_not_know_to_be_big(client, vendor, monkeypatch):
    monkeypatch.setattr("sandbox.schwab.MOST_BYTES", 400_000)  # AAPL is 2 MB
    await client.post("/control/requests/reset")
    chain = await vendor.chain("AAPL", soon())
    asked = (await client.get("/control/requests")).json()["vendors"]["schwab"]
    assert asked["statuses"]["502"] >= 2
    monkeypatch.undo()
    whole = await vendor.chain("AAPL", soon())
    assert chain.contract.tolist() == whole.contract.tolist()
    monkeypatch.setattr("sandbox.schwab.MOST_BYTES", 1_000)  # no window is small enough
    with pytest.raises(Unavailable, match="too big"):
        await vendor.chain("AAPL", soon())


async def test_the_adapter_asks_for_dates(vendor):
    first, last = date(2026, 12, 1), date(2026, 12, 18)
    for symbol in ("AAPL", "SPY"):
        chain = await vendor.chain(symbol, soon(), first, last)
        days = chain.expiration.astype(object)
        assert {first <= day <= last for day in days} == {True}
        assert last in days
    assert len(await vendor.chain("AAPL", soon(), date(2026, 11, 28), date(2026, 11, 29))) == 0
    assert len(await vendor.chain("SPX", soon(), date(2026, 11, 28), date(2026, 11, 29))) == 0


async def test_a_symbol_without_options_is_not_sold(vendor):
    with pytest.raises(Unsupported):
        await vendor.chain("NOPE", soon())


async def test_the_adapter_knows_movers_facts_and_hours(vendor):
    gainers = (await vendor.movers(Ranking.GAINERS, soon())).rows
    losers = (await vendor.movers(Ranking.LOSERS, soon())).rows
    active = (await vendor.movers(Ranking.ACTIVE, soon())).rows
    assert len(gainers) == len(losers) == len(active) == 10
    assert gainers[0].change_percent > 1 > -1 > losers[0].change_percent
    for row in (*gainers, *losers):
        before = row.last - row.change
        assert row.change_percent == pytest.approx(row.change / before * 100, abs=0.006)
    assert active[0].volume == max(row.volume for row in active)

    profile = await vendor.profile("BRK.B", soon())
    assert (profile.symbol, profile.exchange) == ("BRK.B", "NYSE")
    assert profile.market_cap > 1e11
    assert profile.dividend_ex > NOON.date()
    assert await vendor.profile("NOPE", soon()) is None

    sessions = await vendor.hours(date(2026, 11, 25), date(2026, 11, 30), soon())
    assert [session.day.day for session in sessions] == [25, 27, 30]
    assert sessions[1].closes - sessions[1].opens == timedelta(hours=3, minutes=30)


async def test_five_minutes_are_of_the_same_market_as_one(vendor):
    span = (NOON - timedelta(minutes=30), NOON)
    five = (await vendor.bars(["KO"], Timeframe.FIVE_MINUTES, *span, soon())).bars
    one = (await vendor.bars(["KO"], Timeframe.MINUTE, *span, soon())).bars
    assert len(five) == 6
    assert len(one) == 30
    for n, bar in enumerate(five):
        part = one[5 * n : 5 * n + 5]
        assert bar.at == part[0].at
        assert (bar.open, bar.close) == (part[0].open, part[-1].close)
        assert bar.high == max(b.high for b in part)
        assert bar.volume == sum(b.volume for b in part)


@pytest.mark.parametrize(
    ("rule", "meaning"),
    [
        ({"kind": "garbage"}, Malformed),
        ({"kind": "html"}, Malformed),
        ({"kind": "html", "status": 403}, Unavailable),
        ({"kind": "throttle"}, RateLimited),
        ({"kind": "status", "status": 403}, Denied),
        ({"kind": "status", "status": 404}, Unsupported),
        ({"kind": "status", "status": 500}, Unavailable),
        ({"kind": "status", "status": 502}, Unavailable),
        ({"kind": "status", "status": 503}, Unavailable),
    ],
    ids=str,
)
async def test_a_fault_has_its_meaning(client, vendor, rule, meaning):
    await client.post("/control/faults", json={"vendor": "schwab", "path": "/marketdata", **rule})
    with pytest.raises(meaning) as caught:
        await vendor.chain("KO", soon())
    assert "app-secret" not in repr(caught.value)


async def test_a_chain_strewn_with_nothing_is_still_one(client, vendor):
    whole = await vendor.chain("KO", soon())
    await client.post(
        "/control/faults", json={"vendor": "schwab", "path": "/chains", "kind": "nan"}
    )
    chain = await vendor.chain("KO", soon())
    assert chain.contract.tolist() == whole.contract.tolist()
    for name in ("bid", "ask", "volume", "open_interest"):
        found, told = getattr(chain, name), getattr(whole, name)
        lost = np.isnan(found)
        assert 0.1 < lost.mean() < 0.4
        np.testing.assert_array_equal(found[~lost], told[~lost])
