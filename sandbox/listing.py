"""What is listed on the sandbox's market: each symbol's name, place, usual price, volatility and volume.

Well-known names stand near a level a person expects; the rest is drawn from the symbol's own hash,
so that it is the same on every machine and does not depend on the order of the list.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b

from actors.domain.universe import seed as universe

SECTORS = {  # usual annual volatility of a member
    "Communication Services": 0.32,
    "Consumer Discretionary": 0.36,
    "Consumer Staples": 0.22,
    "Energy": 0.31,
    "Financials": 0.27,
    "Health Care": 0.29,
    "Industrials": 0.29,
    "Information Technology": 0.37,
    "Materials": 0.30,
    "Real Estate": 0.26,
    "Utilities": 0.21,
}

# symbol, price, annual volatility in percent, million shares a day
_KNOWN = """
SPY 685 15 75   QQQ 620 20 50    IWM 250 21 35    DIA 480 14 4     VOO 630 15 8    VTI 338 15.5 4
GLD 385 17 9    SLV 48 30 25     TLT 89 14 38     EEM 55 18 30     AAPL 272 27 48  MSFT 485 24 22
NVDA 180 44 185 AMZN 228 31 42   GOOGL 310 30 32  GOOG 311 30 21   META 640 34 14  TSLA 440 56 85
AVGO 345 45 25  BRK.B 505 18 4.5 JPM 318 24 9     LLY 1050 33 3.5  V 347 21 6.5    UNH 325 38 9
XOM 118 24 16   JNJ 205 18 8     WMT 114 21 18    MA 565 21 2.8    PG 143 18 8     HD 345 23 4
COST 875 22 2.2 ORCL 195 48 25   NFLX 95 36 40    AMD 214 52 40    KO 70 16 15     BAC 55 26 38
CRM 255 34 7    CVX 150 23 9     ABBV 228 24 6    PEP 150 20 7     INTC 37 55 85   DIS 112 27 9
CSCO 77 25 20   QCOM 172 34 9    BA 215 35 8      PLTR 185 62 55   F 13.3 33 60    T 24.5 22 38
VZ 40.5 20 22   PFE 25 24 45     GE 310 30 5      CAT 590 32 3.4   GS 890 29 2     MS 178 28 5.5
WFC 93 27 14    C 118 29 13      MU 280 55 24     TXN 176 33 7     ADBE 350 32 4   INTU 660 29 1.6
IBM 300 28 4.5  UBER 82 36 20    NKE 63 37 14     MCD 310 18 3.4   SBUX 85 30 9    LOW 240 25 3
NVR 7400 27 .03 BKNG 5400 28 .2  AZO 3450 22 .14  COIN 240 72 11   HOOD 120 68 28  RDDT 220 66 7
"""
# price, volatility, million shares a day, beta
_FUND_BETA = {"SPY": 1.0, "VOO": 1.0, "VTI": 1.02, "QQQ": 1.2, "IWM": 1.18, "DIA": 0.88}
_FUND_BETA |= {"GLD": 0.1, "SLV": 0.35, "TLT": -0.2, "EEM": 0.75}

_INDICES = (  # an index is the fund that follows it, at its own level
    ("$SPX", "S&P 500 INDEX", "SPY", 10.03),
    ("$DJI", "DOW JONES INDUSTRIAL AVERAGE", "DIA", 100.2),
    ("$COMPX", "NASDAQ COMPOSITE", "QQQ", 37.6),
)
_FOLLOWS = {"VOO": "SPY", "VTI": "SPY"} | {row[0]: row[2] for row in _INDICES}

DOW = frozenset(
    [
        "AAPL",
        "AMGN",
        "AMZN",
        "AXP",
        "BA",
        "CAT",
        "CRM",
        "CSCO",
        "CVX",
        "DIS",
        "GS",
        "HD",
        "HON",
        "IBM",
        "JNJ",
        "JPM",
        "KO",
        "MCD",
        "MMM",
        "MRK",
        "MSFT",
        "NKE",
        "NVDA",
        "PG",
        "SHW",
        "TRV",
        "UNH",
        "V",
        "VZ",
        "WMT",
    ]
)
_NASDAQ = frozenset(
    [
        "AMD",
        "ADI",
        "ADP",
        "AEP",
        "APA",
        "APP",
        "CEG",
        "CME",
        "CSX",
        "EA",
        "EXC",
        "FOX",
        "HON",
        "KDP",
        "KHC",
        "LIN",
        "MAR",
        "MU",
        "ON",
        "PEP",
        "TXN",
        "WBD",
        "WMT",
        "XEL",
        "TER",
    ]
)
_NYSE = frozenset(
    [
        "BALL",
        "CARR",
        "CBRE",
        "CPAY",
        "DECK",
        "DELL",
        "EXPE",
        "FICO",
        "GDDY",
        "HUBB",
        "INVH",
        "KVUE",
        "MSCI",
        "OTIS",
        "RDDT",
        "SCHW",
        "SOLV",
        "SPGI",
        "UBER",
        "VICI",
        "VLTO",
        "WELL",
    ]
)

MARKET_VOLATILITY = 0.15
SECTOR_VOLATILITY = 0.10


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol of the sandbox's market; the three parts of its volatility are annual."""

    symbol: str
    name: str
    kind: str  # stock | etf | index
    sector: str | None
    exchange: str  # Schwab's letter
    exchange_name: str
    price: float
    volume: float  # shares on an average day
    beta: float
    market_part: float
    sector_part: float
    own_part: float
    path_of: str  # whose own noise it follows: itself, or the fund behind an index
    drift: float  # yearly, of the logarithm of the price

    @property
    def volatility(self) -> float:
        """Return the annual volatility all three parts make together."""
        return math.sqrt(self.market_part**2 + self.sector_part**2 + self.own_part**2)

    @property
    def shares(self) -> float:
        """Return the shares outstanding: a company turns over about 0.6 % of itself a day."""
        return float(round(self.volume * 170))


def fraction(*words: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the words."""
    return key(*words) / 2**64


def key(*words: object) -> int:
    """Return 64 bits that depend on nothing but the words."""
    text = "\x1f".join(map(str, words)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def listings() -> tuple[Listing, ...]:
    """Return everything that trades: the universe, then the indices."""
    words = _KNOWN.split()
    known = {
        words[i]: (float(words[i + 1]), float(words[i + 2]) / 100, float(words[i + 3]) * 1e6)
        for i in range(0, len(words), 4)
    }
    rows = [_listing(t.symbol, t.name, t.kind, t.sector, known) for t in universe()]
    by_symbol = {row.symbol: row for row in rows}
    for symbol, name, fund, level in _INDICES:
        behind = by_symbol[fund]
        known[symbol] = (behind.price * level, behind.volatility, behind.volume * 42)
        rows.append(_listing(symbol, name, "index", None, known))
    return tuple(rows)


def _listing(
    symbol: str,
    name: str,
    kind: str,
    sector: str | None,
    known: dict[str, tuple[float, float, float]],
) -> Listing:
    path_of = _FOLLOWS.get(symbol, symbol)
    if symbol in known:
        price, volatility, volume = known[symbol]
    else:
        price = round(28 * math.exp(2.6 * fraction(symbol, "price")), 2)
        usual = SECTORS.get(sector or "", 0.25)
        volatility = usual * math.exp(0.5 * (fraction(symbol, "volatility") - 0.5))
        # A share costs what it costs; what is alike across companies is the money that changes hands.
        volume = 1.2e8 * math.exp(2.2 * fraction(symbol, "volume")) / price
    if kind == "stock":
        beta = volatility / 0.30 * (0.65 + 0.6 * fraction(symbol, "beta"))
        market = min(beta * MARKET_VOLATILITY, 0.65 * volatility)
        in_sector = min(SECTOR_VOLATILITY, 0.45 * volatility)
        drift = 0.02 + 0.07 * fraction(symbol, "drift")
    else:
        beta = _FUND_BETA.get(path_of, 0.5)
        market, in_sector = beta * MARKET_VOLATILITY, 0.0
        # One drift for all of them, or an index and its fund would part over the years.
        drift = 0.05
    own = math.sqrt(max(volatility**2 - market**2 - in_sector**2, (0.04 * volatility) ** 2))
    exchange, exchange_name = _exchange(symbol, kind)
    return Listing(
        symbol=symbol,
        name=name,
        kind=kind,
        sector=sector,
        exchange=exchange,
        exchange_name=exchange_name,
        price=price,
        volume=volume,
        beta=market / MARKET_VOLATILITY,
        market_part=market,
        sector_part=in_sector,
        own_part=own,
        path_of=path_of,
        drift=drift,
    )


def _exchange(symbol: str, kind: str) -> tuple[str, str]:
    if kind == "index":
        return "0", "Index"
    if kind == "etf":
        return ("Q", "NASDAQ") if symbol in {"QQQ", "TLT"} else ("P", "NYSE Arca")
    nasdaq = symbol in _NASDAQ or (len(symbol) > 3 and symbol.isalpha() and symbol not in _NYSE)
    return ("Q", "NASDAQ") if nasdaq else ("N", "NYSE")
