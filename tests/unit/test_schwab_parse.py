"""Schwab's answers as recorded, and as nasty as they have been seen.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain.models import Quote, Timeframe
from actors.providers.base import Denied, LoginNeeded, Malformed, Unavailable, Unsupported
from actors.providers.schwab import (
    build_bars,
    build_quotes,
    parse_bars,
    parse_quotes,
    refusal,
)
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
    assert isinstance(refusal(502, too_big), Unavailable)
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
