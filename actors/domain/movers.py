"""Which symbols moved or traded most, told from quotes that are there anyway."""

from collections.abc import Iterable

from actors.domain.bars import trading_day
from actors.domain.models import Mover, Movers, Quote, Ranking


def ranked(quotes: Iterable[Quote], ranking: Ranking, limit: int) -> Movers | None:
    """Return the `limit` first of a ranking, None where no quote can be ranked.

    Only quotes of the newest trading day take part: what was last heard of yesterday has moved yesterday.
    A gainer has gained and a loser has lost, so that there may be fewer than asked for.
    """
    told = [q for q in quotes if q.last is not None and _measure(q, ranking) is not None]
    if not told:
        return None
    at = max(quote.at for quote in told)
    today = [quote for quote in told if trading_day(quote.at) == trading_day(at)]
    moved = [quote for quote in today if _belongs(quote, ranking)]
    moved.sort(key=lambda quote: (-abs(_measure(quote, ranking) or 0.0), quote.symbol))
    sources = ", ".join(sorted({quote.source for quote in today}))
    return Movers(ranking, at, sources, tuple(_mover(quote) for quote in moved[:limit]))


def _measure(quote: Quote, ranking: Ranking) -> float | None:
    return quote.volume if ranking is Ranking.ACTIVE else quote.change_percent


def _belongs(quote: Quote, ranking: Ranking) -> bool:
    measure = _measure(quote, ranking) or 0.0
    return measure < 0 if ranking is Ranking.LOSERS else measure > 0


def _mover(quote: Quote) -> Mover:
    return Mover(
        quote.symbol,
        quote.last or 0.0,
        quote.change,
        quote.change_percent,
        quote.volume,
        quote.name,
    )
