"""The newest quote of each ticker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from actors.domain.bars import Seen, Tally, minute, trading_day
from actors.domain.models import Bar, Quote
from actors.store.database import Connection, aware, count

FIELDS = (
    ("at", "timestamptz"),
    ("source", "text"),
    ("last", "float8"),
    ("bid", "float8"),
    ("ask", "float8"),
    ("bid_size", "bigint"),
    ("ask_size", "bigint"),
    ("open", "float8"),
    ("high", "float8"),
    ("low", "float8"),
    ("close", "float8"),
    ("previous_close", "float8"),
    ("volume", "bigint"),
    ("change", "float8"),
    ("change_percent", "float8"),
    ("high_52w", "float8"),
    ("low_52w", "float8"),
    ("delayed", "boolean"),
    ("name", "text"),
)
NAMES = tuple(name for name, _ in FIELDS)
OF_QUOTE = attrgetter(*NAMES)
COLUMNS = ", ".join(NAMES)

GIVEN = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(FIELDS, 6))
STORED, NEW = (", ".join(f"{row}.{name}" for name in NAMES) for row in ("q", "EXCLUDED"))

# An older quote never overwrites a newer one; one that says nothing new writes nothing.
UPSERT = f"""
INSERT INTO quotes AS q (ticker_id, counted, counted_on, counted_by, {COLUMNS}, fetched_at)
SELECT t.*, $1::timestamptz
FROM unnest($2::smallint[], $3::bigint[], $4::date[], $5::text[], {GIVEN})
     AS t(ticker_id, counted, counted_on, counted_by, {COLUMNS})
ORDER BY t.ticker_id
ON CONFLICT (ticker_id) DO UPDATE
SET counted = EXCLUDED.counted, counted_on = EXCLUDED.counted_on, counted_by = EXCLUDED.counted_by,
    fetched_at = EXCLUDED.fetched_at,
    {", ".join(f"{name} = EXCLUDED.{name}" for name in NAMES)}
WHERE q.at <= EXCLUDED.at
  AND (q.counted, q.counted_on, q.counted_by, {STORED})
      IS DISTINCT FROM (EXCLUDED.counted, EXCLUDED.counted_on, EXCLUDED.counted_by, {NEW})
"""  # noqa: S608  (column names of ours)
LATEST = f"""
SELECT t.symbol, q.counted, q.counted_on, q.counted_by, q.fetched_at, {STORED}
FROM quotes q JOIN tickers t ON t.id = q.ticker_id
WHERE t.active
"""  # noqa: S608


BEFORE = """
SELECT k.ticker_id, q.at AS seen_at, q.volume AS seen_volume,
       q.counted, q.counted_on, q.counted_by,
       b.at, b.open, b.high, b.low, b.close, b.volume, b.polled, b.source
FROM unnest($1::smallint[], $2::timestamptz[]) AS k(ticker_id, minute)
LEFT JOIN quotes q ON q.ticker_id = k.ticker_id
LEFT JOIN bars_1m b ON b.ticker_id = k.ticker_id AND b.at = k.minute AND b.at BETWEEN $3 AND $4
"""
OF_BAR = ("at", "open", "high", "low", "close", "volume", "source", "polled")


@dataclass(frozen=True, slots=True)
class StoredQuote:
    """A quote, when it was last fetched as something new, and how much of its volume is in bars."""

    quote: Quote
    fetched_at: datetime
    tally: Tally


async def upsert(
    connection: Connection,
    ids: Mapping[str, int],
    quotes: Iterable[Quote],
    fetched_at: datetime,
    tallies: Mapping[str, Tally] | None = None,
) -> int:
    """Store the quotes that are newer than the stored ones and return how many that were.

    Without its tally a symbol's counting begins anew: at the volume this quote tells.
    """
    newest: dict[str, Quote] = {}
    for quote in quotes:
        at, before = aware(quote.at), newest.get(quote.symbol)
        if before is None or before.at <= at:
            newest[quote.symbol] = quote
    if not newest:
        return 0
    given = tallies or {}
    told = [
        given.get(q.symbol) or Tally(q.volume, trading_day(q.at), q.source) for q in newest.values()
    ]
    status = await connection.execute(
        UPSERT,
        aware(fetched_at),
        [ids[symbol] for symbol in newest],
        [tally.counted for tally in told],
        [tally.day for tally in told],
        [tally.source for tally in told],
        *zip(*map(OF_QUOTE, newest.values()), strict=True),
    )
    return count(status)


async def latest(connection: Connection) -> list[StoredQuote]:
    """Return the newest quote of each active ticker."""
    return [
        StoredQuote(
            Quote(symbol=row["symbol"], **{name: row[name] for name in NAMES}),
            row["fetched_at"],
            Tally(row["counted"], row["counted_on"], row["counted_by"]),
        )
        for row in await connection.fetch(LATEST)
    ]


async def before(
    connection: Connection, ids: Mapping[str, int], quotes: Sequence[Quote]
) -> dict[str, tuple[Seen | None, Bar | None]]:
    """Return what is stored of each quote's symbol, and of the minute it falls in."""
    minutes = [minute(aware(quote.at)) for quote in quotes]
    if not minutes:
        return {}
    symbols = {ids[quote.symbol]: quote.symbol for quote in quotes}
    rows = await connection.fetch(BEFORE, list(symbols), minutes, min(minutes), max(minutes))
    return {
        (symbol := symbols[row["ticker_id"]]): (
            Seen(
                row["seen_at"],
                row["seen_volume"],
                Tally(row["counted"], row["counted_on"], row["counted_by"]),
            )
            if row["seen_at"]
            else None,
            Bar(symbol, **{name: row[name] for name in OF_BAR}) if row["at"] else None,
        )
        for row in rows
    }
