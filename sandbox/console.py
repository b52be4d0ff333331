# ruff: noqa: RUF001  (the page is set with a typographer's signs)
"""The sandbox's own page: what the market does, what was asked, which faults are in force."""

import math
import string
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.clock import Clock
from sandbox.control import Control, Unknown
from sandbox.faults import ANY, VENDORS, Faults, Kind, Unusable, parsed
from sandbox.gate import Requests
from sandbox.market import Market, Quotes

SHOWN = 12
PINNED = ("$SPX", "$DJI", "$COMPX", "SPY", "QQQ", "AAPL", "NVDA", "TSLA")

Form = dict[str, str]


class Console:
    """The page, and the forms on it."""

    def __init__(
        self, market: Market, clock: Clock, faults: Faults, requests: Requests, control: Control
    ) -> None:
        self._market, self._clock, self._control = market, clock, control
        self._faults, self._requests = faults, requests

    def routes(self) -> list[Route]:
        """Return the page and what its buttons post to."""
        return [
            Route("/", self._page, methods=["GET"]),
            Route("/console/prices", self._form(self._move), methods=["POST"]),
            Route("/console/clock", self._form(self._set_clock), methods=["POST"]),
            Route("/console/faults", self._form(self._add_fault), methods=["POST"]),
            Route("/console/faults/remove", self._form(self._remove_fault), methods=["POST"]),
            Route("/console/requests/reset", self._form(self._reset), methods=["POST"]),
        ]

    def _form(self, act: Callable[[Form], str]) -> Any:
        async def handler(request: Request) -> Response:
            sent = dict(parse_qsl((await request.body()).decode(errors="replace")))
            try:
                said = {"said": act(sent)}
            except (Unusable, Unknown) as error:
                said = {"refused": str(error)}
            # Back to the page by GET, so that a reload does not send the form again.
            return RedirectResponse(f"/?{urlencode(said)}", 303)

        return handler

    def _move(self, sent: Form) -> str:
        moved = self._control.move(sent.get("symbol"), _number(sent, "price"))
        return f"{moved['symbol']} stands at {moved['last']:,.2f}"

    def _set_clock(self, sent: Form) -> str:
        asked: dict[str, Any] = {k: v for k in ("at", "hours") if (v := sent.get(k))}
        if "speed" in sent:
            asked["speed"] = _number(sent, "speed")
        told = self._control.set_clock(asked)
        return f"The clock says {told['new_york']}, {told['speed']:g}× as fast, {told['hours']}"

    def _add_fault(self, sent: Form) -> str:
        rule: dict[str, Any] = {k: v for k in ("vendor", "kind", "path") if (v := sent.get(k))}
        for name in ("rate", "seconds", "status", "count"):
            if sent.get(name):
                rule[name] = _number(sent, name)
        self._faults.add([parsed(rule)])
        return f"{rule['kind']} is in force for {rule['vendor']}"

    def _remove_fault(self, sent: Form) -> str:
        if sent.get("id"):
            return "Removed" if self._faults.remove(int(_number(sent, "id"))) else "It was gone"
        self._faults.clear()
        return "No fault is in force"

    def _reset(self, _: Form) -> str:
        self._requests.reset()
        return "Counting from nothing"

    async def _page(self, request: Request) -> Response:
        asked = request.query_params
        search = asked.get("q", "").strip()[:40]
        now = self._clock.ms()
        quotes = self._market.quotes(now)
        clock = self._control.clock()
        said, refused = asked.get("said", ""), asked.get("refused", "")
        notice = f'<p class="said">{escape(said[:300])}</p>' if said else ""
        notice += f'<p class="said bad">{escape(refused[:300])}</p>' if refused else ""
        page = PAGE.substitute(
            notice=notice,
            clock=escape(clock["new_york"].replace("T", " ")[:19]),
            state="open" if clock["open"] else "closed",
            speed=f"{clock['speed']:g}",
            wall="wall clock" if clock["wall"] else "set by hand",
            seed=self._market.seed,
            hours=_options(("always", "nyse"), clock["hours"]),
            search=escape(search, quote=True),
            found=self._found(search, quotes),
            gainers=self._movers(quotes, up=True),
            losers=self._movers(quotes, up=False),
            faults=self._fault_rows(),
            vendors=_options((*VENDORS, ANY), "schwab"),
            kinds=_options(tuple(Kind), "latency"),
            requests=self._request_rows(),
            since=escape(self._requests.since.strftime("%H:%M:%S")),
        )
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    def _found(self, search: str, quotes: Quotes) -> str:
        market, wanted = self._market, search.upper()
        if not wanted:
            return self._table([market.index[s] for s in PINNED], quotes)
        ranked = sorted(
            (not r.symbol.startswith(wanted), r.symbol != wanted, r.symbol, i)
            for i, r in enumerate(market.listings)
            if r.symbol.startswith(wanted) or wanted in r.name.upper()
        )
        if not ranked:
            return '<p class="none">Nothing of that name trades here.</p>'
        return self._table([row[-1] for row in ranked[:SHOWN]], quotes)

    def _movers(self, quotes: Quotes, *, up: bool) -> str:
        change = quotes.last / quotes.previous_close - 1
        order = (-change if up else change).argsort(kind="stable")
        stocks = [int(i) for i in order if self._market.listings[int(i)].kind == "stock"]
        return self._table(stocks[:6], quotes)

    def _table(self, rows: list[int], quotes: Quotes) -> str:
        lines = []
        for i in rows:
            listing = self._market.listings[i]
            last, before = float(quotes.last[i]), float(quotes.previous_close[i])
            percent = (last / before - 1) * 100
            way = "up" if percent > 0 else "down" if percent < 0 else ""
            lines.append(
                f"<tr><th>{escape(listing.symbol)}<small>{escape(listing.name)}</small></th>"
                f'<td>{last:,.2f}</td><td class="{way}">{percent:+.2f} %</td>'
                f'<td class="wide">{float(quotes.low[i]):,.2f} – {float(quotes.high[i]):,.2f}</td>'
                f'<td class="wide">{int(quotes.volume[i]):,}</td></tr>'
            )
        head = (
            '<tr><th>Symbol</th><td>Last</td><td>Change</td><td class="wide">Day</td>'
            '<td class="wide">Volume</td></tr>'
        )
        return f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"

    def _fault_rows(self) -> str:
        rows = []
        for rule in self._faults:
            told = rule.told()
            number, hits = told.pop("id"), told.pop("hits")
            vendor, kind = told.pop("vendor"), told.pop("kind")
            rest = ", ".join(f"{name} {value}" for name, value in told.items())
            rows.append(
                f"<tr><th>{escape(kind)}<small>{escape(vendor)}</small></th>"
                f"<td>{escape(rest)}</td><td>{hits}×</td>"
                '<td><form method="post" action="/console/faults/remove">'
                f'<button name="id" value="{number}" title="Remove">✕</button></form></td></tr>'
            )
        if not rows:
            return '<p class="none">None: every request is answered as it should be.</p>'
        clear = (
            '<form method="post" action="/console/faults/remove"><button>Clear all</button></form>'
        )
        return f"<table><tbody>{''.join(rows)}</tbody></table>{clear}"

    def _request_rows(self) -> str:
        rows = []
        for vendor, told in self._requests.told()["vendors"].items():
            statuses = ", ".join(f"{n}× {status}" for status, n in sorted(told["statuses"].items()))
            rows.append(
                f"<tr><th>{escape(vendor)}<small>{escape(statuses)}</small></th>"
                f"<td>{told['total']:,}</td></tr>"
            )
            rows += [
                f"<tr><td class='path'>{escape(path)}</td><td>{count:,}</td></tr>"
                for path, count in list(told["paths"].items())[:SHOWN]
            ]
        if not rows:
            return '<p class="none">Nothing was asked yet.</p>'
        return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _options(values: tuple[str, ...], chosen: str) -> str:
    return "".join(
        f"<option{' selected' if value == chosen else ''}>{escape(value)}</option>"
        for value in values
    )


def _number(sent: Form, name: str) -> float:
    text = sent.get(name, "").strip().replace(",", "")
    try:
        number = float(text)
    except ValueError:
        raise Unusable(name, f"was {text!r}", "type a number") from None
    if not math.isfinite(number):
        raise Unusable(name, f"was {text!r}", "type a number")
    return int(number) if number.is_integer() else number


PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Volaris sandbox</title>
<style>
:root {
  --ground: #f6f7f9; --card: #fff; --ink: #16202c; --soft: #5d6b7a; --line: #e3e7ec;
  --accent: #2857c5; --up: #0a7d4b; --down: #c2352f;
}
@media (prefers-color-scheme: dark) { :root {
  --ground: #0f151c; --card: #18212b; --ink: #e7edf3; --soft: #93a1b0; --line: #283442;
  --accent: #7ea6ff; --up: #4cc38a; --down: #ff7b72;
} }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 1100px; margin: 0 auto; padding: 20px 16px; }
header { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: baseline; padding-bottom: 0; }
h1 { font-size: 22px; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 14px; margin: 0 0 10px; color: var(--soft); font-weight: 600; }
.now { color: var(--soft); font-variant-numeric: tabular-nums; }
.dot { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 6px;
  background: var(--down); }
.dot.open { background: var(--up); }
main { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(310px, 1fr)); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 16px; min-width: 0; }
section.full { grid-column: 1 / -1; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 6px 4px; border-top: 1px solid var(--line); text-align: right; }
th { text-align: left; font-weight: 600; }
thead td, thead th { color: var(--soft); font-weight: 400; font-size: 12px; border: 0; }
tbody tr:first-child > * { border-top: 0; }
thead + tbody tr:first-child > * { border-top: 1px solid var(--line); }
small { display: block; color: var(--soft); font-weight: 400; font-size: 12px; max-width: 34ch;
  overflow: hidden; text-overflow: ellipsis; }
.path { text-align: left; color: var(--soft); overflow-wrap: anywhere; font-size: 13px; }
.up { color: var(--up); } .down { color: var(--down); }
.none { color: var(--soft); margin: 4px 0 0; }
form { display: flex; flex-wrap: wrap; gap: 8px; margin: 12px 0 0; align-items: end; }
td form { margin: 0; justify-content: end; }
label { display: grid; gap: 2px; font-size: 12px; color: var(--soft); flex: 1 1 84px; }
input, select, button { font: inherit; color: inherit; background: var(--ground); width: 100%;
  border: 1px solid var(--line); border-radius: 8px; padding: 7px 10px; min-height: 38px; }
button { width: auto; cursor: pointer; border-color: var(--accent); color: var(--accent);
  background: none; }
button:hover { background: var(--accent); color: var(--card); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.said { grid-column: 1 / -1; margin: 0; padding: 10px 14px; border-radius: 10px;
  background: var(--card); border: 1px solid var(--up); }
.said.bad { border-color: var(--down); }
td { white-space: nowrap; } td.path { white-space: normal; }
section:not(.full) .wide { display: none; }
@media (max-width: 560px) { .wide { display: none; } }
</style>
</head>
<body>
<header>
  <h1>Volaris sandbox</h1>
  <span class="now"><span class="dot $state"></span>$clock New York · market $state · $wall,
  $speed× · seed $seed</span>
</header>
<main>
$notice
<section class="full">
  <h2>Market</h2>
  <form method="get" action="/" style="margin-top:0">
    <label>Find a symbol or a name<input name="q" value="$search" placeholder="AAPL, bank …"></label>
    <button>Search</button>
  </form>
  $found
  <form method="post" action="/console/prices">
    <label>Symbol<input name="symbol" required placeholder="AAPL" autocapitalize="characters"></label>
    <label>New price<input name="price" required inputmode="decimal" placeholder="250"></label>
    <button>Move it there</button>
  </form>
</section>
<section><h2>Up most</h2>$gainers</section>
<section><h2>Down most</h2>$losers</section>
<section>
  <h2>Faults in force</h2>
  $faults
  <form method="post" action="/console/faults">
    <label>Vendor<select name="vendor">$vendors</select></label>
    <label>Kind<select name="kind">$kinds</select></label>
    <label>Rate<input name="rate" inputmode="decimal" placeholder="1"></label>
    <label>Seconds<input name="seconds" inputmode="decimal"></label>
    <label>Status<input name="status" inputmode="numeric" placeholder="503"></label>
    <label>Times<input name="count" inputmode="numeric" placeholder="for ever"></label>
    <label>Path holds<input name="path" placeholder="/quotes"></label>
    <button>Add</button>
  </form>
</section>
<section>
  <h2>Requests since $since UTC</h2>
  $requests
  <form method="post" action="/console/requests/reset"><button>Count anew</button></form>
</section>
<section>
  <h2>Clock</h2>
  <form method="post" action="/console/clock" style="margin-top:0">
    <label style="flex-basis:100%">Time, with its zone<input name="at"
      placeholder="2026-11-24T15:30:00Z, or now"></label>
    <label>Speed<input name="speed" value="$speed" inputmode="decimal"></label>
    <label>Hours<select name="hours">$hours</select></label>
    <button>Set</button>
  </form>
</section>
</main>
</body>
</html>
""")
