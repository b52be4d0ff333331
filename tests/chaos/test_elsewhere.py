"""A child on another node: nobody sees its /proc, so its pulse tells its memory and its own guard ends it.

The other node is a second raylet on this machine, under a host name of its own.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from actors.tree import TREE
from tests.chaos import blows
from tests.chaos.blows import Ray
from tests.running import ROOT, Running, alive, until

pytestmark = pytest.mark.tree

VICTIM = "price_ingestor"
SOFT = next(row.memory.soft for row in TREE if row.id == VICTIM) >> 20
# Root may do it as it is, others as the root of a user namespace of their own.
UNSHARE = ["unshare", "--uts", *([] if os.getuid() == 0 else ["--map-root-user"])]


class Node:
    """A second Ray node of a tree."""

    def __init__(self, tree, name):
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


@pytest.fixture(scope="module")
def tree():
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a process have a host name of its own")
    running = Running(
        VOLARIS_JOB__PRICES="2",
        VOLARIS_YOUNG_SECONDS="1",
        VOLARIS_STABLE_SECONDS="0",
        VOLARIS_PLACE__PRICE_INGESTOR="elsewhere",
    )
    node = None
    try:
        running.start(wait=False)
        until(lambda: "ray" in running.file("run.json"), 120)
        node = Node(running, "elsewhere")
        until(running.all_up, 120)
        yield running
        running.run("down")
    finally:
        if node:
            node.stop()
        left = running.stop()
    assert left == []


@pytest.fixture(scope="module")
def wire(tree):
    connection = Ray(tree)
    yield connection
    connection.close()


def test_it_is_elsewhere_and_its_memory_is_seen_all_the_same(tree):
    child = until(lambda: (c := tree.children()[VICTIM])["memory_mb"] and c, 20)
    assert child["node"] == "elsewhere"
    assert {c["node"] for n, c in tree.children().items() if n != VICTIM} == {socket.gethostname()}
    assert 20 < child["memory_mb"] < SOFT


def test_over_soft_it_is_relieved(tree, wire):
    before = tree.children()
    first = before[VICTIM]
    wire.blow(VICTIM, blows.leak, SOFT - 40, 1.0)
    until(
        lambda: tree.children()[VICTIM]["generation"] == first["generation"] + 1 and tree.all_up(),
        60,
        "it was not relieved",
    )
    until(lambda: not os.path.exists(f"/proc/{first['pid']}"), 60, "the old one did not go")
    after = tree.children()
    assert (after[VICTIM]["replacements"], after[VICTIM]["restarts"]) == (1, 0)
    assert (after[VICTIM]["last_exit"]["cause"], after[VICTIM]["node"]) == (
        "memory_soft",
        "elsewhere",
    )


def test_over_hard_with_its_loop_blocked_it_is_ended_by_its_guard(tree, wire):
    before = tree.children()
    wire.blow(VICTIM, blows.block_loop_and_leak, 1024, 5)
    tree.back_alone(VICTIM, before)
    assert tree.guard_ended(before[VICTIM])
