"""A whole tree for a test: started as a user would start it, in a home and on ports of its own."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx
import psutil

# One token for all trees of this run, and set before anything imports ray: it reads it only once.
TOKEN = secrets.token_urlsafe(32)
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}

ROOT = Path(__file__).parents[1]
VOLARIS = [str(Path(sys.executable).with_name("volaris"))]
# Root may do it as it is, others as the root of a user namespace of their own.
UNSHARE = ["unshare", "--uts", *([] if os.getuid() == 0 else ["--map-root-user"])]
OURS = ("VOLARIS_", "SCHWAB_", "DATABASE_URL", "RAY_")


def until(true, seconds=60.0, why="it did not come true", every=0.1):
    """Wait for a condition and return its value; the bound is for a broken tree, not for a slow machine."""
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"{why} within {seconds:g} s")
        time.sleep(every)
    return value


def alive(process):
    """Tell whether a process lives; a zombie that its parent has not fetched yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Running:
    """One `volaris up` in a home of its own."""

    def __init__(self, **env):
        # Short, because Ray's sockets lie below it.
        self.home = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
        (self.home / "run").mkdir(mode=0o700)
        (self.home / "run" / "ray.token").touch(mode=0o600)
        (self.home / "run" / "ray.token").write_text(TOKEN)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(OURS) and k != "PORT"}
        self.env = {
            **clean,
            "VOLARIS_HOME": str(self.home),
            "VOLARIS_API_PORT": "0",
            "VOLARIS_DASHBOARD": "false",
            "VOLARIS_SANDBOX_PORT": "0",
            **env,
        }
        self.process = None
        self.http = httpx.Client(timeout=30)

    def start(self, *args, wait=True):
        self.log = (self.home / "up.log").open("ab")
        self.process = subprocess.Popen(
            [*VOLARIS, "up", *args],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if wait:
            until(self.all_up, 120, "the tree did not come up")
        return self

    def run(self, *args, check=True, timeout=150):
        done = subprocess.run(
            [*VOLARIS, *args],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def said(self):
        return (self.home / "up.log").read_text()

    def file(self, name):
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.home / "run" / name).read_text())
        return {}

    def children(self):
        return {child["id"]: child for child in self.file("tree.json").get("children", ())}

    def all_up(self):
        assert self.process is None or self.process.poll() is None, self.said()
        children = self.children()
        return children and all(child["state"] == "up" for child in children.values())

    def pids(self):
        return {name: child["pid"] for name, child in self.children().items()}

    def supervisor(self):
        return self.file("tree.json")["supervisor"]["pid"]

    def url(self, path):
        return self.file("run.json")["api"] + path

    def sandbox(self, path):
        return self.file("run.json")["sandbox"] + path

    def get(self, path, **params):
        return self.http.get(self.url(path), params=params)

    def job(self, name):
        return next(j for j in self.get("/api/v1/system/jobs").json()["jobs"] if j["id"] == name)

    def query(self, *statements):
        """Return each statement's rows, all of one moment, straight from the tree's own PostgreSQL."""

        async def ask():
            dsn = f"postgresql://postgres@/volaris?host={self.home}/pg"
            connection = await asyncpg.connect(dsn, timeout=10, command_timeout=60)
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    return [await connection.fetch(statement) for statement in statements]
            finally:
                await connection.close(timeout=10)

        return asyncio.run(ask())

    def logs(self, name):
        with contextlib.suppress(OSError):
            return (self.home / "logs" / f"{name}.log").read_text()
        return ""

    def members(self):
        """Return every living process of this home, whatever it has done to its command line."""
        sids = set(self.file("run.json").get("sessions", ()))
        if self.process is not None:
            sids.add(self.process.pid)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                ours = os.getsid(process.pid) in sids or str(self.home) in " ".join(
                    process.cmdline()
                )
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def back_alone(self, victim, before):
        """Wait until a child has died of its memory and is back; no other has, and the API has answered."""
        told = set()

        def back():
            if victim != "api_server":
                told.add(self.get("/health").status_code)
            now = self.children()
            return now[victim]["generation"] == before[victim]["generation"] + 1 and self.all_up()

        until(back, 60, "it was not killed and started again")
        after = self.children()
        assert told <= {200}
        assert after[victim]["last_exit"]["cause"] == "memory_hard"
        assert after[victim]["restarts"] == before[victim]["restarts"] + 1
        assert {n: c["pid"] for n, c in after.items() if n != victim} == {
            n: c["pid"] for n, c in before.items() if n != victim
        }

    def guard_ended(self, child):
        """Tell whether the guard inside a process was what ended it."""
        return (self.home / "run" / f"{child['id']}.{child['generation']}.last-words").exists()

    def stop(self):
        """End it as Ctrl-C would, and remove its home; nothing of it may be left."""
        members = self.members()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
        left = [process for process in members if alive(process)]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.http.close()
        if self.process is not None:
            self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)
        return left


class Node:
    """A second Ray node of a tree that is starting, under a host name of its own, which is its resource, too."""

    @staticmethod
    def possible():
        return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0

    def __init__(self, tree, name):
        until(lambda: "ray" in tree.file("run.json"), 120, "the tree has no Ray head")
        environment = {**tree.env, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        environment["RAY_AUTH_TOKEN_PATH"] = str(tree.home / "run" / "ray.token")
        environment.pop("RAY_AUTH_TOKEN", None)
        ray = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            f"--address={tree.file('run.json')['ray']}",
            "--num-cpus=0",
            f'--resources={{"{name}": 1}}',
            "--object-store-memory=80000000",
            "--dashboard-agent-listen-port=0",
            "--dashboard-agent-grpc-port=0",
            "--runtime-env-agent-port=0",
            "--metrics-export-port=0",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
        ]
        starter = subprocess.Popen(
            [*UNSHARE, "sh", "-c", f'hostname {name} && exec "$@"', "sh", *ray],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self.session = starter.pid
        said, _ = starter.communicate(timeout=90)
        assert starter.returncode == 0, said

    def members(self):
        return [p for p in psutil.process_iter() if os.getsid(p.pid) == self.session and alive(p)]

    def stop(self):
        for process in self.members():
            process.kill()
        until(lambda: not self.members(), 20)
