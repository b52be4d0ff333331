"""`volaris`: the command line.  Each command is a few lines here; what it does is in `boot`, `home`, `doctor`.

Exit codes: 0 done, 1 it failed, 3 not running (as in LSB's `status`), 78 the configuration is wrong.
"""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from actors import home, settings
from actors.settings import EX_CONFIG, Refused, Settings

NOT_RUNNING = 3
INTERRUPTED = 130
DOWN_WITHIN = 120.0

app = typer.Typer(
    help="Market data, implied volatility and alerts for options traders: a supervised tree of Ray actors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; what is refused is one sentence, not a traceback."""
    try:
        app()
    except Refused as e:
        print(f"volaris: {e}", file=sys.stderr)
        sys.exit(EX_CONFIG)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@app.command()
def up(
    sandbox: Annotated[
        bool, typer.Option(help="Use the local sandbox market when no vendor key is set.")
    ] = True,
) -> None:
    """Start the tree and show it while it runs; Ctrl-C drains and stops it."""
    config = settings.read()
    asyncio.run(_up(config, sandbox=sandbox))


async def _up(config: Settings, *, sandbox: bool) -> None:
    from actors.boot import Boot
    from actors.view import Live

    live = Live(config.volaris_home)
    task = asyncio.current_task()
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)  # a second one ends the patience of the drain, not the tidying up
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        async with Boot(config, live.say, sandbox=sandbox).running() as boot:
            await asyncio.gather(boot.watch(), live.show())
    except asyncio.CancelledError:
        if not asked:
            raise


@app.command()
def down() -> None:
    """Drain and stop the tree of this home; leave no process behind."""
    where = settings.read().volaris_home
    run = home.read_run(where)
    if home.is_locked(where):
        pid = int(run.get("pid", 0))
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if not _wait(lambda: not home.is_locked(where), DOWN_WITHIN):
            print(
                f"volaris: the boot program (pid {pid}) does not end; killing it", file=sys.stderr
            )
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
    elif not run:
        print(f"nothing is running in {where}")
        return
    _end_what_is_left(where)
    print("stopped")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on showing it until Ctrl-C.")] = False,
    history: Annotated[bool, typer.Option(help="Show the newest starts and stops.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows of history.")] = 50,
) -> None:
    """Show the tree: every child with its memory, its budget, its restarts and why."""
    where = settings.read().volaris_home
    if not home.is_locked(where):
        left = len(home.leftovers(home.read_run(where)))
        if as_json:
            body: dict[str, Any] = {"running": False, "api": None, "children": []}
            body["left_behind"] = left
            print(json.dumps(body))
        elif left:
            print(
                f"the boot program is gone, but {left} processes of its run live in {where};"
                " `volaris down` ends them, `volaris up` starts anew"
            )
        else:
            print(f"nothing is running in {where}")
        sys.exit(NOT_RUNNING)
    if as_json and not history:
        print(json.dumps(_status(where)))
    elif history:
        _history(where, limit, as_json=as_json)
    else:
        _show(where, watch=watch)


def _status(where: Path) -> dict[str, Any]:
    run, tree = home.read_run(where), home.read_tree(where)
    return {
        "running": True,
        "state": run.get("state"),
        "pid": run.get("pid"),
        "api": run.get("api"),
        "dashboard": run.get("dashboard"),
        "sandbox": run.get("sandbox"),
        "at": tree.get("at"),
        "boot": tree.get("boot"),
        "supervisor": tree.get("supervisor"),
        "children": tree.get("children", []),
    }


def _show(where: Path, *, watch: bool) -> None:
    from actors.view import Live, console, headline, tree_table

    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(Live(where).show())
        return
    run, tree = home.read_run(where), home.read_tree(where)
    console().print(headline(run, tree), tree_table(tree), sep="\n")


def _history(where: Path, limit: int, *, as_json: bool) -> None:
    import httpx

    from actors.view import console, history_table

    url = f"{home.read_run(where).get('api')}/api/v1/system/history"
    try:
        answer = httpx.get(url, params={"limit": limit}, timeout=10).raise_for_status()
    except httpx.HTTPError as e:
        print(
            f"the API does not answer ({type(e).__name__}); try again in a moment", file=sys.stderr
        )
        sys.exit(1)
    if as_json:
        print(answer.text)
    else:
        console().print(history_table(answer.json()["history"]))


@app.command()
def login(
    vendor: Annotated[str, typer.Argument(help="The vendor; so far only schwab needs people.")],
    browser: Annotated[bool, typer.Option(help="Open a browser here.")] = True,
) -> None:
    """Log in at a vendor in a browser; the running tree keeps the login (Schwab's lives 7 days)."""
    from actors.login import LoginFailed, log_in

    where = settings.read().volaris_home
    api = home.read_run(where).get("api")
    if not home.is_locked(where) or not api:
        print(f"nothing is running in {where}; `volaris up` first", file=sys.stderr)
        sys.exit(NOT_RUNNING)
    try:
        ends = asyncio.run(log_in(vendor, str(api), print, browser=browser))
    except LoginFailed as e:
        print(f"volaris: {e}", file=sys.stderr)
        sys.exit(1)
    print(f"logged in at {vendor} until {ends:%Y-%m-%d %H:%M} UTC")


@app.command()
def doctor() -> None:
    """Check what the tree needs of this machine: ports, memory, database, keys, clock."""
    from actors.doctor import examine

    findings = asyncio.run(examine(settings.read()))
    for finding in findings:
        print(f"{'ok  ' if finding.well else 'BAD '} {finding.what}: {finding.said}")
    if not all(finding.well for finding in findings):
        sys.exit(1)


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First day, YYYY-MM-DD.")],
    symbols: Annotated[
        list[str] | None, typer.Argument(metavar="SYMBOL...", help="BRK.B and BRK-B are the same.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="Last day; default: the newest there is."),
    ] = None,
    timeframe: Annotated[str, typer.Option(metavar="1m|1d", help="Length of the bars.")] = "1d",
    universe: Annotated[
        str | None, typer.Option(metavar="sp500", help="All stocks of the seed list.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Default: the cheapest, free ones first.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="What it may cost, where it costs money.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the price, whatever it is.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Ask for everything anew, as after a split.")
    ] = False,
) -> None:
    """Fetch history and store it; Ctrl-C stops it, and the same command goes on where it stopped."""
    if max_cost is not None and not math.isfinite(max_cost):
        raise Refused(f"max_cost must be dollars, 0 or more, was {max_cost}")
    where = settings.read().volaris_home
    api = home.read_run(where).get("api")
    if not api or not home.is_locked(where):
        print(f"nothing is running in {where}; start it with `volaris up`", file=sys.stderr)
        sys.exit(NOT_RUNNING)
    body: dict[str, Any] = {"symbols": symbols or [], "from": first, "timeframe": timeframe}
    given = {"to": last, "universe": universe, "provider": provider, "max_cost": max_cost}
    body |= {name: value for name, value in given.items() if value is not None}
    sys.exit(_backfill(api, body | ({"again": True} if again else {}), yes=yes))


def _backfill(api: str, body: dict[str, Any], *, yes: bool) -> int:
    import httpx

    from actors.backfill_view import Backfill, Failed, clock, newest_day

    one = Backfill(api)
    try:
        told = one.ask(body)
        if told["state"] == "priced":
            print(f"{told['vendor']} wants {told['price']:.4g} dollars for it")
            if not (yes or (sys.stdin.isatty() and typer.confirm("Pay that?"))):
                print("nothing was bought; agree with --yes or --max-cost USD", file=sys.stderr)
                return 1
            told = one.ask(body | {"max_cost": told["price"]})
        if told["state"] == "running":
            print(
                f"{told['vendor']}: {told['symbols']} symbols, about {told['rows_expected']:,} bars in"
                f" {told['requests_planned']} requests, {clock(told['seconds_left'])} at its limits"
            )
        one.watch()
        newest = newest_day(told["end"])
        if body.get("to", newest) > newest:
            print(f"it ends with {newest}; the same command asks for what comes later")
        if one.told["silent"]:
            print(f"no bars of {' '.join(one.told['silent'])}: unknown, or not listed then")
    except KeyboardInterrupt:
        if one.told.get("state") == "running":
            one.cancel()
            print(f"\nstopped at {one.told['rows']:,} bars; the same command goes on from there")
        return INTERRUPTED
    except Failed as e:
        print(f"volaris: {e}", file=sys.stderr)
        return 1
    except httpx.HTTPError as e:
        print(
            f"the API does not answer ({type(e).__name__}); the backfill goes on without being watched",
            file=sys.stderr,
        )
        return 1
    finally:
        one.close()
    return 0


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A record that VOLARIS_RECORD=1 has made.")],
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="CHILD=SOFT:HARD", help="Another budget in MiB; may be repeated."),
    ] = None,
) -> None:
    """Judge a recorded day again: are the orders the same, and which would other budgets have given."""
    from actors import replay as record
    from actors.view import console, differences

    lines, unread = record.read(file)
    others = record.budgets(budget or (), lines)
    outcome = record.replay(lines, others)
    console().print(*differences(outcome, unread + outcome.skipped, others=bool(others)), sep="\n")
    if outcome.differences and not others:
        sys.exit(1)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def sandbox(context: typer.Context) -> None:
    """Run the sandbox market alone, in the foreground (`volaris sandbox --help` tells its options)."""
    os.execv(sys.executable, [sys.executable, "-m", "sandbox", *context.args])  # noqa: S606


def _end_what_is_left(where: Path) -> None:
    from actors.store import embedded

    home.end_leftovers(home.read_run(where), 3.0)
    if (where / "pg").exists():
        embedded.stop_server(where)
    home.forget(where)


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
