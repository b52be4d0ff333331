"""The market-data vendors, by name; adding one is a file, a line here and a recording."""

import sys
from typing import Final

# httpx brings its command line along where click and rich are installed: 5 MB that no actor uses.
# Where that import fails it does without, as it is meant to.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

PROVIDERS: Final = {
    "schwab": "actors.providers.schwab:Schwab",
    "tiingo": "actors.providers.tiingo:Tiingo",
    "alpaca": "actors.providers.alpaca:Alpaca",
    "polygon": "actors.providers.polygon:Polygon",
    "finnhub": "actors.providers.finnhub:Finnhub",
    "databento": "actors.providers.databento:Databento",
    "sp500": "actors.providers.sp500:SP500",
}
