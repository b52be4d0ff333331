"""The embedded server against everything that was seen to break others: one server, always back."""

# ruff: noqa: ASYNC220, ASYNC240, ASYNC251  (nothing else runs in these loops)

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from actors.store import embedded
from actors.store.embedded import ServerFailed, ensure_server, server_pid, stop_server

ENSURE = "import sys, pathlib; from actors.store.embedded import ensure_server as e; print(e(pathlib.Path(sys.argv[1]), durable=False), flush=True)"
LINGER = ENSURE + "; import time; time.sleep(60)"


@pytest.fixture
def home():
    """Give a folder for a home; whatever runs in it is ended."""
    home = Path(tempfile.mkdtemp(prefix="ve"))
    yield home
    stop_server(home)
    shutil.rmtree(home)


def start(home):
    return ensure_server(home, durable=False)


def starters(home, number, code=ENSURE):
    return [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]


def answers(processes):
    return [process.communicate(timeout=60)[0].strip() for process in processes]


def living(home):
    """Return every process that runs on the home's data."""
    name = embedded._place(home).name
    return [
        pid
        for pid in psutil.pids()
        if embedded._is_server(embedded._place(home), pid)
        or any(f"postgres: {name}:" in part for part in embedded._argv(pid))
    ]


async def select_one(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


def kill(pid):
    os.kill(pid, signal.SIGKILL)


async def test_six_first_starts_at_once_give_one_server(home):
    told = answers(starters(home, 6))
    assert told == [embedded.address(home)] * 6
    assert (
        len([pid for pid in psutil.pids() if embedded._is_server(embedded._place(home), pid)]) == 1
    )
    assert await select_one(told[0]) == 1


async def test_the_server_outlives_its_starter(home):
    [starter] = starters(home, 1, LINGER)
    dsn = starter.stdout.readline().strip()
    pid = server_pid(home)
    starter.kill()
    starter.communicate()
    assert server_pid(home) == pid
    assert await select_one(dsn) == 1
    assert psutil.Process(pid).ppid() != starter.pid


async def test_a_killed_postmaster_is_replaced_once_by_many_healers(home):
    dsn = start(home)
    before = server_pid(home)
    kill(before)
    assert set(answers(starters(home, 5))) == {dsn}
    assert server_pid(home) not in (before, None)
    assert (
        len([pid for pid in psutil.pids() if embedded._is_server(embedded._place(home), pid)]) == 1
    )
    assert await select_one(dsn) == 1


async def test_an_orphan_that_does_not_notice_its_postmasters_death_is_ended(home):
    dsn = start(home)
    connection = await asyncpg.connect(dsn)
    backend = connection.get_server_pid()
    os.kill(backend, signal.SIGSTOP)
    kill(server_pid(home))
    begun = time.monotonic()
    assert start(home) == dsn
    assert time.monotonic() - begun < 10
    assert await select_one(dsn) == 1
    connection.terminate()


async def test_a_zombie_is_not_a_running_server(home):
    start(home)
    stop_server(home)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    (home / "pg/data/postmaster.pid").write_text(f"{zombie.pid}\n{home}/pg/data\n")
    (home / "pg/.s.PGSQL.5432.lock").write_text(f"{zombie.pid}\n")
    assert await select_one(start(home)) == 1
    zombie.wait()


@pytest.mark.parametrize(
    "pid_file",
    [f"{os.getpid()}\n", "1\n", "", "not a pid", "999999999\n"],
    ids=["ours", "init", "empty", "text", "nobody"],  # the same in every worker
)
async def test_a_stale_pid_file_stops_nobody(home, pid_file):
    start(home)
    kill(server_pid(home))
    (home / "pg/data/postmaster.pid").write_text(pid_file)
    (home / "pg/.s.PGSQL.5432.lock").write_text(pid_file)
    assert await select_one(start(home)) == 1


async def test_a_lost_pid_file_does_not_hide_a_running_server(home):
    start(home)
    pid = server_pid(home)
    (home / "pg/data/postmaster.pid").write_text("")
    assert server_pid(home) == pid
    stop_server(home)
    assert living(home) == []


async def test_a_start_cut_off_in_the_middle_is_begun_anew(home):
    (home / "pg/data.new").mkdir(parents=True)
    (home / "pg/data.new/PG_VERSION").write_text("18")
    assert await select_one(start(home)) == 1


async def test_a_server_whose_socket_was_cleaned_away_is_started_again(home, monkeypatch):
    monkeypatch.setattr(embedded, "DEAF_AFTER", 0.2)
    dsn = start(home)
    (home / "pg/.s.PGSQL.5432").unlink()
    assert await select_one(start(home)) == 1
    assert dsn == embedded.address(home)


def test_stopping_leaves_nothing(home):
    start(home)
    assert living(home)
    stop_server(home)
    stop_server(home)
    assert living(home) == []
    assert server_pid(home) is None
    assert sorted(path.name for path in (home / "pg").iterdir()) == ["data", "server.log"]
    assert not (home / "pg/data/postmaster.pid").exists()


def test_stopping_after_a_kill_leaves_nothing(home):
    start(home)
    kill(server_pid(home))
    stop_server(home)
    assert living(home) == []
    assert sorted(path.name for path in (home / "pg").iterdir()) == ["data", "server.log"]


async def test_stopping_right_after_a_crash_is_quick(home):
    connection = await asyncpg.connect(start(home))
    kill(connection.get_server_pid())  # the server ends every session and starts its redo
    time.sleep(0.02)
    begun = time.monotonic()
    stop_server(home)
    assert time.monotonic() - begun < 10
    assert living(home) == []
    connection.terminate()


async def test_a_home_with_a_long_path_has_a_private_short_folder(home):
    deep = home / ("long" * 25)
    dsn = start(deep)
    folder = Path(dsn.split("host=")[1])
    try:
        assert await select_one(dsn) == 1
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        stop_server(deep)
    assert not folder.exists()
    assert living(deep) == []


def test_a_short_folder_that_others_can_enter_is_refused(home):
    deep = home / ("long" * 25)
    folder = Path(embedded.address(deep).split("host=")[1])
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        with pytest.raises(
            ServerFailed, match="must be a private folder of ours, was mode drwxrwxrwx"
        ):
            start(deep)
    finally:
        folder.rmdir()


def test_the_server_has_no_port_and_bears_the_mark_of_its_home(home):
    start(home)
    server = psutil.Process(server_pid(home))
    assert server.environ()["VOLARIS_MARK"] == str(home)
    for process in (server, *server.children()):
        with contextlib.suppress(psutil.NoSuchProcess):  # its workers come and go
            assert [
                c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN
            ] == []


def test_a_server_that_cannot_start_says_why(home):
    start(home)
    stop_server(home)
    version = home / "pg/data/PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(
        ServerFailed, match=r"did not start, its last words: .*incompatible with server"
    ):
        start(home)
    version.write_text("18\n")


def test_a_home_that_cannot_be_written_says_so(home):
    (home / "pg").write_text("in the way")
    with pytest.raises(ServerFailed, match=r"pg cannot be started: \[Errno 17\] File exists"):
        start(home)
    (home / "pg").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
async def test_root_without_user_namespaces_becomes_a_system_account(home, monkeypatch):
    home.chmod(0o755)
    monkeypatch.setattr(
        embedded, "STUB", embedded.STUB.replace("unshare(0x10000000)", "unshare(-1)")
    )
    dsn = start(home)
    assert await select_one(dsn) == 1
    assert psutil.Process(server_pid(home)).uids().real != 0
    kill(server_pid(home))
    monkeypatch.undo()  # data that belongs to the account stays with it
    assert await select_one(start(home)) == 1
    assert psutil.Process(server_pid(home)).uids().real != 0
