"""Schwab's answers as recorded, and as nasty as they have been seen.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.chains import Chain, read_occ
from actors.domain.models import Quote, Ranking, Timeframe
from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    Unavailable,
    Unsupported,
)
from actors.providers.schwab import (
    TOO_BIG,
    build_bars,
    build_chain,
    build_quotes,
    parse_bars,
    parse_hours,
    parse_movers,
    parse_profile,
    parse_quotes,
    refusal,
    windows_of,
)
from actors.providers.schwab_chain import joined, parse_chain, parse_expirations
from actors.providers.schwab_oauth import (
    Account,
    Login,
    build_exchange,
    build_headers,
    choose,
    dump,
    load,
    parse_tokens,
)
from actors.providers.schwab_oauth import refusal as token_refusal

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "schwab"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")

NOON = 1_729_281_600_000  # 2024-10-18 20:00 UTC, in Schwab's milliseconds

# Where each field of ours is in an entry of theirs.
FIELDS = {
    "last": ("quote", "lastPrice"),
    "bid": ("quote", "bidPrice"),
    "ask": ("quote", "askPrice"),
    "bid_size": ("quote", "bidSize"),
    "ask_size": ("quote", "askSize"),
    "open": ("quote", "openPrice"),
    "high": ("quote", "highPrice"),
    "low": ("quote", "lowPrice"),
    "close": ("regular", "regularMarketLastPrice"),
    "previous_close": ("quote", "closePrice"),
    "volume": ("quote", "totalVolume"),
    "change": ("quote", "netChange"),
    "change_percent": ("quote", "netPercentChange"),
    "high_52w": ("quote", "52WeekHigh"),
    "low_52w": ("quote", "52WeekLow"),
}


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def entry(**fields: Any) -> dict[str, Any]:
    """Return a good entry with these fields of its quote changed; a field of `...` is taken out."""
    quote = {
        "lastPrice": 10.0,
        "bidPrice": 9.9,
        "askPrice": 10.1,
        "closePrice": 9.5,
        "quoteTime": NOON,
    }
    quote |= fields
    return {
        "symbol": "X",
        "realtime": True,
        "quote": {k: v for k, v in quote.items() if v is not ...},
        "reference": {"description": "X CORP"},
        "regular": {"regularMarketLastPrice": 10.0},
    }


def one(body: dict[str, Any], symbol: str = "X") -> Quote:
    [quote] = parse_quotes(body, [symbol]).quotes
    return quote


# --- recordings --------------------------------------------------------------------------------------


@recorded
@pytest.mark.parametrize(
    "name",
    [
        "quote_NVDA.json",
        "quote_SPX_index.json",
        "quote_NVDA_option_250307P00095000.json",
        "meta_option_quote.json",
        "schwabdev_docs_quote.json",
        "schwabdev_docs_quotes.json",
    ],
)
def test_recorded_quotes_lose_nothing(name: str) -> None:
    body = recording(name)
    batch = parse_quotes(body, list(body))
    assert [quote.symbol for quote in batch.quotes] == list(body)
    assert batch.unknown == batch.failed == ()
    for quote in batch.quotes:
        theirs = body[quote.symbol]
        for ours, (part, field) in FIELDS.items():
            assert getattr(quote, ours) == theirs.get(part, {}).get(field), ours
        times = [theirs["quote"].get(key, 0) for key in ("quoteTime", "tradeTime")]
        assert quote.at.timestamp() == max(times) / 1000
        assert quote.at.tzinfo is UTC
        assert quote.delayed is not theirs["realtime"]
        assert quote.name == theirs["reference"]["description"]
        assert quote.source == "schwab"


@recorded
def test_recorded_daily_bars_lose_nothing_and_lie_on_their_dates() -> None:
    body = recording("price_history_daily.json")
    bars = parse_bars(body, "SPY", Timeframe.DAY)
    assert len(bars) == len(body["candles"])
    for bar, candle in zip(bars, body["candles"], strict=True):
        for field in ("open", "high", "low", "close", "volume"):
            assert getattr(bar, field) == candle[field]
        assert bar.at.tzinfo is UTC
        assert bar.at.timestamp() % 86_400 == 0
        assert 5 <= (candle["datetime"] / 1000 - bar.at.timestamp()) / 3600 <= 6
    assert bars[0].at == datetime(2025, 6, 18, tzinfo=UTC)
    assert [bar.at.weekday() < 5 for bar in bars] == [True] * len(bars)


@recorded
def test_recorded_monthly_bars_from_the_client_documentation() -> None:
    body = recording("schwabdev_docs_price_history.json")
    bars = parse_bars(body, body["symbol"], Timeframe.DAY)
    assert len(bars) == len(body["candles"])
    assert {bar.at.day for bar in bars} == {1}


def chained(body: Any) -> int:
    return len(parse_chain(body, "X", MONDAY))


def moved(body: Any) -> int:
    return len(parse_movers(body, Ranking.ACTIVE, MONDAY).rows)


def told(body: Any) -> int:
    """Count the markets whose day is read: open or closed."""
    [found] = {p["date"] for market in body.values() for p in market.values()}
    day = date.fromisoformat(found)
    return len([parse_hours({"equity": market}, day) for market in body.values()])


def profiled(body: Any) -> int:
    return int(parse_profile(body, {}, "AAPL", MONDAY) is not None)


COUNTS: dict[str, tuple[Callable[[Any], int], int]] = {
    "chain_AAPL_2025-01-16.json": (chained, 470),
    "chain_SPX_2025-05-20.json": (chained, 162),
    "market_hours_all.json": (told, 5),
    "market_hours_equity.json": (told, 1),
    "market_hours_future_date.json": (told, 2),
    "meta_option_quote.json": (lambda body: len(parse_quotes(body, list(body)).quotes), 1),
    "movers_basic.json": (moved, 10),
    "option_expiration_chain.json": (lambda body: len(parse_expirations(body)), 32),
    "price_history_daily.json": (lambda b: len(parse_bars(b, "SPY", Timeframe.DAY)), 21),
    "quote_NVDA.json": (lambda body: len(parse_quotes(body, list(body)).quotes), 1),
    "quote_NVDA_option_250307P00095000.json": (
        lambda body: len(parse_quotes(body, list(body)).quotes),
        1,
    ),
    "quote_SPX_index.json": (lambda body: len(parse_quotes(body, list(body)).quotes), 1),
    "schwabdev_docs_instrument_cusip.json": (profiled, 1),
    "schwabdev_docs_instruments.json": (profiled, 1),
    "schwabdev_docs_market_hour.json": (told, 1),
    "schwabdev_docs_market_hours.json": (told, 2),
    "schwabdev_docs_movers.json": (moved, 10),
    "schwabdev_docs_option_expiration_chain.json": (lambda body: len(parse_expirations(body)), 11),
    "schwabdev_docs_price_history.json": (lambda b: len(parse_bars(b, "X", Timeframe.DAY)), 12),
    "schwabdev_docs_quote.json": (lambda body: len(parse_quotes(body, list(body)).quotes), 1),
    "schwabdev_docs_quotes.json": (lambda body: len(parse_quotes(body, list(body)).quotes), 2),
}
NO_DATA = {
    "schwab_market_data.openapi.json": "the portal's text, whose names the wire does not keep"
}


@recorded
@pytest.mark.parametrize("name", COUNTS)
def test_every_row_of_a_recording_is_read(name: str) -> None:
    read, rows = COUNTS[name]
    assert read(recording(name)) == rows


@recorded
def test_every_recording_is_read() -> None:
    assert {path.name for path in RECORDINGS.glob("*.json")} == COUNTS.keys() | NO_DATA.keys()


@recorded
@pytest.mark.parametrize("name", ["chain_AAPL_2025-01-16.json", "chain_SPX_2025-05-20.json"])
def test_recorded_chains_lose_nothing(name: str) -> None:
    body = recording(name)
    chain = parse_chain(body, "X", MONDAY)
    theirs = {c["symbol"]: c for c in contracts_of(body)}
    assert set(chain.contract.tolist()) == theirs.keys()
    rows = [theirs[symbol] for symbol in chain.contract.tolist()]
    for ours, field in CHAIN_FIELDS.items():
        values = np.nan_to_num(getattr(chain, ours))  # a last price of zero is none
        assert values.tolist() == [row[field] for row in rows], ours
    assert not np.isnan(chain.bid + chain.ask + chain.delta + chain.rho).any()
    assert chain.iv.tolist() == [row["volatility"] / 100 for row in rows]
    assert chain.call.tolist() == [row["putCall"] == "CALL" for row in rows]
    days = [row["expirationDate"][:10] for row in rows]  # 20:00 or 21:00 UTC, so the same date
    assert chain.expiration.astype(str).tolist() == days
    assert chain.quoted_at.astype(np.int64).tolist() == [row["quoteTimeInLong"] for row in rows]
    assert chain.at.timestamp() * 1000 == max(row["quoteTimeInLong"] for row in rows)
    assert chain.spot == body["underlyingPrice"]
    assert chain.standard.all()
    assert not chain.delayed
    order = list(zip(days, chain.strike.tolist(), (~chain.call).tolist(), strict=True))
    assert order == sorted(order)


@recorded
def test_zeros_of_recorded_chains_are_kept() -> None:
    apple = parse_chain(recording("chain_AAPL_2025-01-16.json"), "AAPL", MONDAY)
    index = parse_chain(recording("chain_SPX_2025-05-20.json"), "SPX", MONDAY)
    assert int((apple.bid == 0).sum()) == 104
    assert int((index.open_interest == 0).sum()) == 162


CHAIN_FIELDS = {
    "strike": "strikePrice",
    "bid": "bid",
    "ask": "ask",
    "last": "last",
    "bid_size": "bidSize",
    "ask_size": "askSize",
    "volume": "totalVolume",
    "open_interest": "openInterest",
    "delta": "delta",
    "gamma": "gamma",
    "theta": "theta",
    "vega": "vega",
    "rho": "rho",
}


def contracts_of(body: Any) -> Iterator[dict[str, Any]]:
    for side in ("callExpDateMap", "putExpDateMap"):
        for strikes in body[side].values():
            for listed in strikes.values():
                yield from listed


# --- quotes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nothing",
    [-999, -999.0, "NaN", float("nan"), float("inf"), None, ..., "10.0", True, [], {}, 10**400, -1],
    ids=repr,
)
@pytest.mark.parametrize(
    "ours", [field for field in FIELDS if field not in ("change", "change_percent")]
)
def test_every_way_of_saying_nothing_is_none(ours: str, nothing: Any) -> None:
    part, field = FIELDS[ours]
    body = entry(askPrice=10.1)
    if nothing is ...:
        body[part].pop(field, None)
    else:
        body[part][field] = nothing
    assert getattr(one({"X": body}), ours) is None


@pytest.mark.parametrize("nothing", [-999.0, "NaN", float("nan"), None, ..., "1.0", False])
def test_a_change_may_be_negative_but_not_nothing(nothing: Any) -> None:
    quote = one({"X": entry(netChange=-1.5, netPercentChange=nothing)})
    assert quote.change == -1.5
    assert quote.change_percent is None


def test_percent_stays_percent() -> None:
    assert one({"X": entry(netPercentChange=1.17165626)}).change_percent == 1.17165626


def test_before_the_first_trade_there_is_no_last_price() -> None:
    quote = one({"X": entry(lastPrice=0.0, openPrice=0.0, highPrice=0, lowPrice=0)})
    assert quote.last is quote.open is quote.high is quote.low is None
    assert quote.previous_close == 9.5


def test_a_zero_bid_is_real() -> None:
    quote = one({"X": entry(bidPrice=0.0, bidSize=0, totalVolume=0)})
    assert quote.bid == 0.0
    assert quote.bid_size == quote.volume == 0


@pytest.mark.parametrize(
    ("quoted", "traded", "at"),
    [
        (NOON, NOON - 5000, NOON),
        (NOON - 5000, NOON, NOON),
        (0, NOON, NOON),
        (..., NOON, NOON),
        (NOON, "NaN", NOON),
        (NOON, 10**18, NOON),
    ],
)
def test_the_later_time_is_when_it_was_true(quoted: Any, traded: Any, at: int) -> None:
    assert one({"X": entry(quoteTime=quoted, tradeTime=traded)}).at.timestamp() == at / 1000


def test_milliseconds_are_kept_exactly() -> None:
    at = one({"X": entry(quoteTime=1729281600171)}).at
    assert at == datetime(2024, 10, 18, 20, 0, 0, 171_000, tzinfo=UTC)


def test_delayed_only_where_it_says_so() -> None:
    assert one({"X": entry() | {"realtime": False}}).delayed
    body = entry()
    del body["realtime"]
    assert not one({"X": body}).delayed


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("AT&amp;T INC", "AT&T INC"),
        ("  two\n lines\x00 ", "two lines"),
        ("", None),
        (7, None),
        ("x" * 5000, "x" * 200),
    ],
)
def test_names_are_plain_text(description: Any, name: str | None) -> None:
    assert one({"X": entry() | {"reference": {"description": description}}}).name == name


@pytest.mark.parametrize("part", ["reference", "regular"])
@pytest.mark.parametrize("value", [..., None, [], "x"])
def test_the_side_parts_may_be_missing(part: str, value: Any) -> None:
    body = entry()
    del body[part]
    assert one({"X": body | ({} if value is ... else {part: value})}).last == 10.0


def test_one_bad_entry_fails_alone() -> None:
    body = {
        "A": entry(),
        "B": None,
        "C": {"symbol": "C"},
        "D": {"quote": "x"},
        "E": entry(quoteTime=...),
        "F": entry(lastPrice=0, bidPrice=..., askPrice="NaN", closePrice=-999),
        "G": entry(),
    }
    batch = parse_quotes(body, list("ABCDEFG"))
    assert [quote.symbol for quote in batch.quotes] == ["A", "G"]
    assert batch.unknown == ()
    assert dict(batch.failed) == {
        "B": "its entry is an object, was NoneType",
        "C": "its quote is an object, was NoneType",
        "D": "its quote is an object, was str",
        "E": "it has neither a quoteTime nor a tradeTime",
        "F": "there is no price in it",
    }


def test_unknown_is_what_is_named_or_vanishes() -> None:
    body = {"A": entry(), "errors": {"invalidSymbols": ["NOPE"]}}
    batch = parse_quotes(body, ["A", "NOPE", "GONE"])
    assert [quote.symbol for quote in batch.quotes] == ["A"]
    assert batch.unknown == ("NOPE", "GONE")


def test_nothing_known_is_an_answer_where_it_says_so() -> None:
    body = {"errors": {"invalidSymbols": ["A", "B"]}}
    assert parse_quotes(body, ["A", "B"]).unknown == ("A", "B")
    assert parse_quotes({}, ["BRK.B"]).unknown == ("BRK.B",)


@pytest.mark.parametrize(
    "body",
    [
        [],
        None,
        "Service temporarily unavailable",
        {},
        {"error": "Internal error"},
        {"errors": [{"status": 500, "title": "Internal Server Error"}]},
        {"errors": {"invalidSymbols": []}},
        {"fault": {"faultstring": "Body buffer overflow"}},
        {"C": entry()},
    ],
)
def test_an_answer_to_another_question_is_malformed(body: Any) -> None:
    # Calling 500 symbols unknown because of it would be worse than calling it nothing.
    with pytest.raises(Malformed):
        parse_quotes(body, ["A", "B"])


def test_what_was_not_asked_for_is_ignored() -> None:
    assert len(parse_quotes({"A": entry(), "B": entry()}, ["A"]).quotes) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["A", "B", "errors", "quote", "lastPrice", "quoteTime", "reference", "candles"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(JSON)
def test_any_json_is_quotes_or_malformed(body: Any) -> None:
    try:
        batch = parse_quotes(body, ["A", "B"])
    except Malformed:
        return
    found = [quote.symbol for quote in batch.quotes]
    assert sorted([*found, *batch.unknown, *(symbol for symbol, _ in batch.failed)]) == ["A", "B"]


@given(JSON)
def test_any_json_is_bars_or_malformed(body: Any) -> None:
    try:
        parse_bars(body, "A", Timeframe.MINUTE)
    except Malformed:
        return


# --- bars --------------------------------------------------------------------------------------------


def candle(at: int = NOON, **fields: Any) -> dict[str, Any]:
    return {
        "open": 1.0,
        "high": 2.0,
        "low": 0.5,
        "close": 1.5,
        "volume": 7,
        "datetime": at,
    } | fields


@pytest.mark.parametrize(
    ("central_midnight", "day"),
    [
        (datetime(2025, 6, 18, 5, tzinfo=UTC), datetime(2025, 6, 18, tzinfo=UTC)),
        (datetime(2025, 1, 15, 6, tzinfo=UTC), datetime(2025, 1, 15, tzinfo=UTC)),
        # The day of New York's session, not of New York's midnight: that is 06:00 or 05:00 UTC before.
        (datetime(2025, 3, 10, 5, tzinfo=UTC), datetime(2025, 3, 10, tzinfo=UTC)),
    ],
)
def test_a_daily_bar_is_of_its_date_in_chicago(central_midnight: datetime, day: datetime) -> None:
    [bar] = parse_bars(
        {"candles": [candle(int(central_midnight.timestamp() * 1000))]}, "X", Timeframe.DAY
    )
    assert bar.at == day


def test_a_minute_bar_is_of_its_moment() -> None:
    [bar] = parse_bars({"candles": [candle()]}, "X", Timeframe.MINUTE)
    assert bar.at == datetime(2024, 10, 18, 20, tzinfo=UTC)
    assert not bar.polled


def test_a_candle_that_is_none_is_left_out() -> None:
    bad: list[Any] = [None, 5, {}]
    bad += [
        candle(**{key: value})
        for key in ("open", "high", "low", "close")
        for value in (0, "NaN", -999.0)
    ]
    bad += [candle(high=0.1), candle(0), candle(float("nan"))]  # type: ignore[arg-type]
    assert len(parse_bars({"candles": [*bad, candle()]}, "X", Timeframe.MINUTE)) == 1
    with pytest.raises(Malformed, match="none of them readable"):
        parse_bars({"candles": bad}, "X", Timeframe.MINUTE)


@pytest.mark.parametrize("volume", [-999, None, "NaN", ...])
def test_a_candle_without_a_volume_traded_nothing(volume: Any) -> None:
    body = candle(volume=volume)
    if volume is ...:
        del body["volume"]
    assert parse_bars({"candles": [body]}, "X", Timeframe.MINUTE)[0].volume == 0


def test_bars_are_in_order_and_the_later_of_two_counts() -> None:
    bars = parse_bars(
        {"candles": [candle(NOON + 60_000), candle(close=1.0), candle(close=1.7)]},
        "X",
        Timeframe.MINUTE,
    )
    assert [bar.close for bar in bars] == [1.7, 1.5]


def test_a_day_without_data_has_no_bars() -> None:
    assert parse_bars({"symbol": "X", "empty": True, "candles": []}, "X", Timeframe.DAY) == ()


@pytest.mark.parametrize("body", [None, [], {}, {"candles": None}, {"candles": {}}, "x"])
def test_no_candles_at_all_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed):
        parse_bars(body, "X", Timeframe.DAY)


# --- chains ------------------------------------------------------------------------------------------


def contract(symbol: str = "X     251219C00010000", **fields: Any) -> dict[str, Any]:
    """Return a good contract with these fields changed; a field of `...` is taken out."""
    told = {
        "symbol": symbol,
        "bid": 1.0,
        "ask": 1.2,
        "last": 1.1,
        "bidSize": 3,
        "askSize": 4,
        "totalVolume": 5,
        "openInterest": 6,
        "volatility": 25.0,
        "delta": 0.5,
        "gamma": 0.1,
        "theta": -0.02,
        "vega": 0.03,
        "rho": 0.01,
        "quoteTimeInLong": NOON,
        "multiplier": 100.0,
        "nonStandard": False,
        "mini": False,
    }
    told |= fields
    return {k: v for k, v in told.items() if v is not ...}


def chain_of(*contracts: Any, **fields: Any) -> Chain:
    return parse_chain(chain_body(*contracts) | fields, "X", MONDAY)


def chain_body(*contracts: Any) -> dict[str, Any]:
    listed = {"2025-12-19:30": {"10.0": list(contracts)}}
    return {"symbol": "X", "status": "SUCCESS", "underlyingPrice": 10.5, "callExpDateMap": listed}


@pytest.mark.parametrize("nothing", [-999, -999.0, "NaN", float("nan"), None, ..., "1.0", True, []])
@pytest.mark.parametrize("ours", [*CHAIN_FIELDS, "iv"])
def test_every_way_a_contract_says_nothing_is_nan(ours: str, nothing: Any) -> None:
    field = CHAIN_FIELDS.get(ours, "volatility")
    if ours == "strike":  # told by the contract's symbol
        return
    [value] = getattr(chain_of(contract(**{field: nothing})), ours)
    assert np.isnan(value)


def test_volatility_is_a_fraction_and_never_zero() -> None:
    assert chain_of(contract(volatility=2151.944)).iv[0] == pytest.approx(21.51944)
    assert np.isnan(chain_of(contract(volatility=0.0)).iv[0])


def test_zeros_of_a_contract_are_real_but_for_the_last_price() -> None:
    chain = chain_of(contract(bid=0.0, bidSize=0, totalVolume=0, openInterest=0, gamma=0.0, last=0))
    assert chain.bid[0] == chain.bid_size[0] == chain.volume[0] == chain.open_interest[0] == 0
    assert chain.gamma[0] == 0
    assert np.isnan(chain.last[0])


def test_a_bid_above_the_ask_is_told_as_it_is() -> None:
    chain = chain_of(contract(bid=1.3, ask=1.2))
    assert (chain.bid[0], chain.ask[0]) == (1.3, 1.2)


def test_morning_and_evening_contracts_share_a_date_and_a_strike() -> None:
    chain = chain_of(contract("SPXW  251219C06000000"), contract("SPX   251219C06000000"))
    assert chain.contract.tolist() == ["SPX   251219C06000000", "SPXW  251219C06000000"]
    assert len(set(chain.expiration.tolist())) == len(set(chain.strike.tolist())) == 1


def test_an_adjusted_contract_is_not_standard() -> None:
    adjusted = contract("X1    251219C00010000", nonStandard=True)
    mini, odd = contract(mini=True), contract("X2    251219C00010000", multiplier=10.0)
    assert not chain_of(adjusted, mini, odd).standard.any()


def test_a_contract_without_a_readable_symbol_is_left_out_alone() -> None:
    bad = [None, 5, contract(symbol=None), contract("X     251319C00010000"), contract("nonsense")]  # type: ignore[arg-type]
    assert len(chain_of(*bad, contract())) == 1
    with pytest.raises(Malformed, match="none of them readable"):
        chain_of(contract("nonsense"))


def test_the_newest_of_two_quotes_of_a_contract_counts() -> None:
    chain = joined([chain_of(contract(bid=2.0, quoteTimeInLong=NOON + 1)), chain_of(contract())])
    assert chain.bid.tolist() == [2.0]
    assert chain.at == datetime(2024, 10, 18, 20, 0, 0, 1000, tzinfo=UTC)


def test_windows_are_joined_in_order_and_without_the_overlap() -> None:
    near, far = contract("X     251219P00010000"), contract("X     260116C00005000")
    later = chain_of(far, near)
    chain = joined([later, chain_of(contract(), near)])
    assert chain.contract.tolist() == [
        "X     251219C00010000",
        "X     251219P00010000",
        "X     260116C00005000",
    ]


def test_what_has_no_time_is_of_now() -> None:
    chain = chain_of(contract(quoteTimeInLong=0))
    assert chain.at == MONDAY
    assert np.isnat(chain.quoted_at[0])


def test_the_spot_may_be_told_by_the_underlying() -> None:
    assert chain_of(contract(), underlyingPrice=0.0).spot is None
    assert chain_of(contract(), underlyingPrice="NaN", underlying={"mark": 9.9}).spot == 9.9


def test_a_chain_that_failed_is_not_an_empty_one() -> None:
    nothing = {"symbol": "X", "callExpDateMap": {}, "putExpDateMap": {}}
    with pytest.raises(Unsupported):
        parse_chain(nothing | {"status": "FAILED"}, "X", MONDAY)
    assert len(parse_chain(nothing | {"status": "NO_DATA"}, "X", MONDAY)) == 0
    for status in (None, "ERROR", 5, {}):
        with pytest.raises(Malformed):
            parse_chain(nothing | {"status": str(status)}, "X", MONDAY)


@pytest.mark.parametrize("body", [None, [], {}, "x", {"errors": [{"status": 500}]}])
def test_no_chain_at_all_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed):
        parse_chain(body, "X", MONDAY)


def test_expirations_are_in_order_and_once() -> None:
    rows: list[Any] = [{"expirationDate": d} for d in ("2026-01-16", "2025-12-19", "2025-12-19")]
    body = {"expirationList": [*rows, None, {"expirationDate": "soon"}]}
    assert parse_expirations(body) == [date(2025, 12, 19), date(2026, 1, 16)]
    assert parse_expirations({"expirationList": []}) == []
    for bad in ({}, {"expirationList": [{}]}, []):
        with pytest.raises(Malformed):
            parse_expirations(bad)


def test_a_chain_is_asked_for_by_dates() -> None:
    query = build_chain("SPX", date(2025, 12, 19), None)
    assert query["symbol"] == "$SPX"
    assert query["fromDate"] == "2025-12-19"
    assert "toDate" not in query
    assert build_chain("BRK.B", None, None)["symbol"] == "BRK/B"


def test_windows_leave_nothing_out() -> None:
    days = [MONDAY.date() + timedelta(days=n) for n in range(8)]
    windows = list(windows_of(days, 3))
    assert [len(window) for window in windows] == [3, 3, 2]
    assert [day for window in windows for day in window] == days


# --- movers, facts, hours ----------------------------------------------------------------------------


def screener(**fields: Any) -> dict[str, Any]:
    told = {"symbol": "X", "lastPrice": 50.0, "netChange": 0.5, "netPercentChange": 0.0101}
    return told | {"volume": 7, "totalVolume": 99, "description": "AT&amp;T INC"} | fields


def test_a_mover_is_told_in_percent() -> None:
    [row] = parse_movers({"screeners": [screener()]}, Ranking.GAINERS, MONDAY).rows
    assert (row.change, row.change_percent) == (0.5, 1.01)
    assert (row.volume, row.name) == (7, "AT&T INC")


def test_out_of_hours_a_mover_has_no_change() -> None:
    body = {"screeners": [screener(netChange=50.0, netPercentChange=1.0)]}
    [row] = parse_movers(body, Ranking.GAINERS, MONDAY).rows
    assert row.change is row.change_percent is None
    assert row.last == 50.0


def test_a_mover_is_found_in_our_spelling_or_left_out() -> None:
    bad = [None, screener(symbol=None), screener(symbol="?"), screener(lastPrice=0.0)]
    rows = [*bad, screener(symbol="BRK/B"), screener(symbol="$SPX", netPercentChange="NaN")]
    movers = parse_movers({"screeners": rows}, Ranking.ACTIVE, MONDAY)
    assert [row.symbol for row in movers.rows] == ["BRK.B", "SPX"]
    assert movers.rows[1].change_percent is None
    assert movers.rows[1].change == 0.5
    assert parse_movers({"screeners": []}, Ranking.ACTIVE, MONDAY).rows == ()
    with pytest.raises(Malformed):
        parse_movers({"screeners": bad}, Ranking.ACTIVE, MONDAY)


FACTS = {"marketCap": 3.5e12, "beta": 0.0, "eps": 6.1, "high52": 237.49, "dividendYield": 0.43}


def test_a_profile_is_of_both_answers() -> None:
    row = {"symbol": "BRK/B", "description": "BERKSHIRE", "exchange": "NYSE", "fundamental": FACTS}
    quoted = {"nextDivExDate": "2024-11-12T04:00:00Z", "peRatio": 35.0, "avg10DaysVolume": 9.0}
    found = parse_profile(
        {"instruments": [{"symbol": "OTHER"}, row]},
        {"BRK/B": {"fundamental": quoted}},
        "BRK.B",
        MONDAY,
    )
    assert found is not None
    assert (found.name, found.exchange, found.market_cap) == ("BERKSHIRE", "NYSE", 3.5e12)
    assert (found.pe, found.eps, found.average_volume) == (35.0, 6.1, 9.0)
    assert found.beta is None  # 0 is Schwab's "not known"
    assert found.dividend_yield == 0.43
    assert found.dividend_ex == date(2024, 11, 12)


def test_a_profile_of_nobody() -> None:
    unknown = {"errors": {"invalidSymbols": ["X"]}}
    assert parse_profile({"instruments": []}, unknown, "X", MONDAY) is None
    assert parse_profile({}, {}, "X", MONDAY) is None
    with pytest.raises(Malformed):
        parse_profile({"instruments": []}, {"error": "down"}, "X", MONDAY)


def hours(day: str = "2026-11-27", **fields: Any) -> dict[str, Any]:
    regular = [{"start": f"{day}T09:30:00-05:00", "end": f"{day}T13:00:00-05:00"}]
    product = {"date": day, "isOpen": True, "sessionHours": {"regularMarket": regular}} | fields
    return {"equity": {"EQ": product}}


def test_an_early_close_shows_in_the_hours() -> None:
    session = parse_hours(hours(), date(2026, 11, 27))
    assert session is not None
    assert session.opens == datetime(2026, 11, 27, 14, 30, tzinfo=UTC)
    assert session.closes == datetime(2026, 11, 27, 18, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        {},
        hours("2026-11-30"),  # of another day
        hours(sessionHours={}),
        hours(sessionHours={"regularMarket": []}),
        hours(sessionHours={"regularMarket": [{"start": "09:30", "end": "16:00"}]}),
        hours(isOpen=None, sessionHours=None),
        {"equity": {"EQ": "open"}},
    ],
)
def test_hours_that_are_neither_open_nor_closed(body: Any) -> None:
    with pytest.raises(Malformed):
        parse_hours(body, date(2026, 11, 27))


# --- questions ---------------------------------------------------------------------------------------


def test_a_class_share_is_asked_for_and_found_in_their_spelling() -> None:
    asked = ["AAPL", "BRK.B", "$SPX", "AAPL  251219C00200000"]
    assert build_quotes(asked)["symbols"] == "AAPL,BRK/B,$SPX,AAPL  251219C00200000"
    assert one({"BRK/B": entry()}, "BRK.B").symbol == "BRK.B"


def test_the_query_leaves_out_the_fundamentals() -> None:
    assert build_quotes(["A"])["fields"] == "quote,reference,regular"


def test_daily_bars_are_asked_for_by_their_stamps() -> None:
    query = build_bars(
        "X", Timeframe.DAY, datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 6, 19, tzinfo=UTC)
    )
    assert query["startDate"] == str(int(datetime(2025, 1, 2, 6, tzinfo=UTC).timestamp() * 1000))
    assert query["endDate"] == str(int(datetime(2025, 6, 19, 5, tzinfo=UTC).timestamp() * 1000) - 1)
    assert (query["periodType"], query["frequencyType"], query["frequency"]) == (
        "year",
        "daily",
        "1",
    )


def test_minute_bars_are_asked_for_in_milliseconds() -> None:
    start = datetime(2025, 6, 18, 13, 30, tzinfo=UTC)
    query = build_bars("BRK.B", Timeframe.MINUTE, start, datetime(2025, 6, 18, 20, tzinfo=UTC))
    assert query["symbol"] == "BRK/B"
    assert query["startDate"] == "1750253400000"
    assert (query["periodType"], query["frequencyType"]) == ("day", "minute")
    assert query["needExtendedHoursData"] == "false"


# --- refusals ----------------------------------------------------------------------------------------


def test_the_vendors_own_words() -> None:
    too_many = {
        "errors": [{"status": "400", "detail": "Search combination should not exceed 500."}]
    }
    too_big = {"fault": {"faultstring": "x", "detail": {"errorcode": "protocol.http.TooBigBody"}}}
    assert "should not exceed 500" in str(refusal(400, too_many))
    assert isinstance(refusal(400, too_many), Unsupported)
    found = refusal(502, too_big)
    assert isinstance(found, Unavailable)
    assert found.why == TOO_BIG
    assert refusal(500, {"errors": [{"status": 500, "title": "x"}]}) is None
    assert refusal(400, None) is None


DEAD = (  # recorded: a refresh token after its seven days
    '400 Bad Request: "{"error_description":"Exception while authenticating refresh token [tokenDigest=…, '
    'Exception=Failed refresh token authentication [tokenDigest=…]]",'
    '"error":"refresh_token_authentication_error"}"'
)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (400, {"error": "unsupported_token_type", "error_description": DEAD}, LoginNeeded),
        (
            400,
            {"error": "invalid_client", "error_description": "refresh token invalid"},
            LoginNeeded,
        ),
        (401, {"error": "invalid_grant"}, LoginNeeded),
        (401, {"error": "invalid_client", "error_description": "Unauthorized"}, Denied),
        (400, None, Unavailable),
        (403, None, Unavailable),
        (400, ["x"], Unavailable),
    ],
)
def test_what_the_token_host_means(status: int, body: Any, meaning: type[Exception]) -> None:
    found = token_refusal(status, body)
    assert type(found) is meaning
    if isinstance(found, LoginNeeded):
        assert "run `volaris login schwab`" in str(found)


def test_a_fault_of_the_token_host_is_left_to_its_status() -> None:
    assert token_refusal(500, None) is token_refusal(429, {}) is None


@pytest.mark.parametrize(
    "body", [None, [], {}, {"access_token": None}, {"access_token": ""}, {"access_token": "a\nb"}]
)
def test_an_answer_without_a_token_loses_nothing(body: Any) -> None:
    with pytest.raises(Unavailable):
        parse_tokens(body)


@pytest.mark.parametrize(
    ("lives", "seconds"), [(1800, 1800), ("x", 1800), (-5, 1800), (1e12, 1800), (900, 900)]
)
def test_the_life_of_a_token(lives: Any, seconds: float) -> None:
    assert parse_tokens({"access_token": "a", "expires_in": lives}) == ("a", None, seconds)


def test_a_code_from_the_address_bar_is_decoded() -> None:
    form = build_exchange(" C0.abc%40 ", "https://127.0.0.1:8182/")
    assert form["code"] == "C0.abc@"


def test_the_client_is_named_by_basic_auth() -> None:
    account = Account("key", "secret", "https://127.0.0.1/", None, "https://x")
    assert build_headers(account) == {"Authorization": "Basic a2V5OnNlY3JldA=="}
    assert "secret" not in repr(account)


# --- which login to go on with -----------------------------------------------------------------------

HERE = Account("key", "secret", "https://127.0.0.1/", "pasted", "https://x")
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
TUESDAY, FRIDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=4)
OURS = Login("pasted", MONDAY, HERE.issuer, HERE.seed, "access", MONDAY + timedelta(minutes=30))


@pytest.mark.parametrize(
    ("mine", "stored", "account", "chosen"),
    [
        pytest.param(None, OURS, HERE, OURS, id="the store's after a restart"),
        pytest.param(None, OURS, replace(HERE, refresh_token=None), OURS, id="nothing pasted"),
        pytest.param(None, replace(OURS, seed=None), HERE, None, id="pasted after the login"),
        pytest.param(None, replace(OURS, seed="other"), HERE, None, id="another pasted"),
        pytest.param(None, replace(OURS, issuer="other"), HERE, None, id="another app or host"),
        pytest.param(OURS, None, HERE, OURS, id="the store is away"),
        pytest.param(OURS, replace(OURS, since=TUESDAY), HERE, replace(OURS, since=TUESDAY), id="a new login"),
        pytest.param(replace(OURS, since=TUESDAY), OURS, HERE, replace(OURS, since=TUESDAY), id="not stored yet"),
        pytest.param(OURS, replace(OURS, access_until=TUESDAY), HERE, replace(OURS, access_until=TUESDAY), id="renewed elsewhere"),
        pytest.param(replace(OURS, access_until=TUESDAY), OURS, HERE, replace(OURS, access_until=TUESDAY), id="renewed here"),
        pytest.param(replace(OURS, since=TUESDAY, guessed=True), OURS, HERE, OURS, id="a guess"),
    ],
)  # fmt: skip
def test_the_login_to_go_on_with(
    mine: Login | None, stored: Login | None, account: Account, chosen: Login | None
) -> None:
    fresh = Login("pasted", FRIDAY, HERE.issuer, HERE.seed, guessed=True)
    assert choose(mine, stored, account, FRIDAY) == (chosen or fresh)


def test_a_login_is_stored_without_loss() -> None:
    assert load(dump(OURS)) == OURS
    bare = replace(OURS, access_token=None, access_until=Login("x", MONDAY, "x", None).access_until)
    assert load(dump(bare)) == bare
    assert "pasted" not in repr(OURS)
    assert "access'" not in repr(OURS)


# --- bodies that were changed on the way -------------------------------------------------------------

INSTRUMENTS = {"instruments": [{"symbol": "X", "description": "X", "fundamental": FACTS}]}
QUOTED = {"X": entry() | {"fundamental": {"nextDivExDate": "2024-11-12T04:00:00Z", "eps": 1.0}}}

# A parse function of one body, and a good body for it: what the mutations below start from.
SEEDS: list[tuple[Callable[[Any], object], Any]] = [
    (lambda body: parse_quotes(body, ["X", "Y"]), QUOTED | {"Y": entry()}),
    (lambda body: parse_bars(body, "X", Timeframe.DAY), {"candles": [candle(), candle()]}),
    (
        lambda body: parse_chain(body, "X", MONDAY),
        chain_body(contract(), contract("X     251219P00010000"))
        | {"underlying": {"mark": 9.0}, "isDelayed": False},
    ),
    (parse_expirations, {"expirationList": [{"expirationDate": "2025-12-19"}], "status": None}),
    (lambda body: parse_movers(body, Ranking.ACTIVE, MONDAY), {"screeners": [screener()] * 2}),
    (lambda body: parse_profile(body, QUOTED, "X", MONDAY), INSTRUMENTS),
    (lambda body: parse_profile(INSTRUMENTS, body, "X", MONDAY), QUOTED),
    (lambda body: parse_hours(body, date(2026, 11, 27)), hours()),
    (lambda body: refusal(400, body), {"errors": [{"status": "400", "detail": "Invalid"}]}),
    (parse_tokens, {"access_token": "a", "refresh_token": "b", "expires_in": 1800}),
]

NASTY = st.sampled_from([
    None, True, 0, -1, -999.0, 10**400, float("nan"), float("inf"), "", "NaN", "\x00", [], {}, [{}],
    {"a": 1}, 1e308, 4_102_444_800_001, "2026-13-45", "9999-12-31T23:59:59+00:00", ["x"],
])  # fmt: skip


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else inner:
        yield from paths(part, (*at, key))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return body


@pytest.mark.parametrize("seed", range(len(SEEDS)))
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_body_raises_nothing_but_our_own(seed: int, data: st.DataObject) -> None:
    parse, body = SEEDS[seed]
    parse(body)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(list(paths(body))))
        body = changed(body, where, data.draw(NASTY))
    try:
        found = parse(body)
    except ProviderError:
        return
    if isinstance(found, Chain):
        assert all(len(getattr(found, c)) == len(found) for c in ("contract", "iv", "standard"))
        for symbol in found.contract.tolist():
            read_occ(symbol)
