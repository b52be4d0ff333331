"""A vendor for benchmarks: Schwab's quotes, price history and token in their wire form, after 100 ms.

It also answers the token-cache questions of the old design, at once.  Bodies are made beforehand, so that
what is measured is the asker.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime

DELAY = 0.1
SESSION = 390  # minutes


def symbols(n):
    """Return n made-up symbols of four letters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        "B" + letters[i // 676 % 26] + letters[i // 26 % 26] + letters[i % 26] for i in range(n)
    ]


def _candles(bars):
    start = int(datetime.now(UTC).timestamp()) // 86400 * 86400 * 1000
    return [
        {
            "open": 100 + i % 7,
            "high": 108.0 + i % 5,
            "low": 99.5,
            "close": 101.25 + i % 3,
            "volume": 1000 + i,
            "datetime": start + i * 60_000,
        }
        for i in range(bars)
    ]


def application(bars):
    """Return the ASGI application; it counts what it is asked."""
    history = json.dumps({"empty": False, "candles": _candles(bars)})[1:].encode()
    asked = Counter()

    def quotes(wanted):
        now = int(time.time() * 1000)
        return json.dumps(
            {
                symbol: {
                    "assetMainType": "EQUITY",
                    "quoteType": "NBBO",
                    "realtime": True,
                    "symbol": symbol,
                    "quote": {
                        "52WeekHigh": 237.49,
                        "52WeekLow": 164.075,
                        "askPrice": 101.02,
                        "askSize": 1,
                        "bidPrice": 101.0,
                        "bidSize": 2,
                        "closePrice": 100.0,
                        "highPrice": 102.0,
                        "lowPrice": 99.0,
                        "lastPrice": 101.01,
                        "netChange": 1.01,
                        "netPercentChange": 1.01,
                        "openPrice": 100.5,
                        "quoteTime": now,
                        "tradeTime": now,
                        "totalVolume": 46430718 + now % 100_000,
                    },
                    "reference": {"description": symbol, "exchange": "Q"},
                    "regular": {"regularMarketLastPrice": 101.01},
                }
                for symbol in wanted
            }
        ).encode()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        path = scope["path"]
        query = dict(part.partition("=")[::2] for part in scope["query_string"].decode().split("&"))
        if path == "/counts":
            body = json.dumps(asked).encode()
        elif path.startswith("/cache/"):
            asked["token cache"] += 1
            body = b'{"result":"token"}'
        elif path.endswith("/oauth/token"):
            asked["token"] += 1
            body = json.dumps(
                {
                    "expires_in": 1800,
                    "token_type": "Bearer",
                    "scope": "api",
                    "refresh_token": "r",
                    "access_token": "a",
                    "id_token": "i",
                }
            ).encode()
        else:
            asked["vendor"] += 1
            await asyncio.sleep(DELAY)
            if path.endswith("/pricehistory"):
                body = b'{"symbol":"' + query["symbol"].encode() + b'",' + history
            else:
                body = quotes(query["symbols"].replace("%2C", ",").split(","))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def start(bars):
    """Start it as a process of its own; return (process, URL)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.vendor", str(port), str(bars)])
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, f"http://127.0.0.1:{port}"
    raise SystemExit("the benchmark's vendor did not start")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        application(int(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
    )
