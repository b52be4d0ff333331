"""A person logs in at Schwab's door of the sandbox through `volaris login`, and the tree keeps the login."""

import os
import signal
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.running import ROOT, VOLARIS, Running, until

pytestmark = pytest.mark.tree


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def tree():
    # Its login has ended: everything there is only a person can begin anew.
    running = Running(
        SCHWAB_REFRESH_TOKEN="expired-long-ago",
        SCHWAB_REDIRECT_URI=f"https://127.0.0.1:{free_port()}/",
        VOLARIS_JOB__PRICES="2",
    )
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []


class Login:
    """One `volaris login schwab --no-browser` that waits for its person."""

    def __init__(self, tree):
        self.process = subprocess.Popen(
            [*VOLARIS, "login", "schwab", "--no-browser"],
            cwd=ROOT,
            env=tree.env | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = iter(self.process.stdout.readline, "")
        self.url = next(line.strip() for line in lines if "oauth/authorize" in line)
        self.said = next(line for line in lines if "paste" in line)

    def end(self, typed=None):
        out, _ = self.process.communicate(typed, timeout=60)
        return self.process.returncode, out


def schwab(tree):
    [found] = [
        v for v in tree.get("/api/v1/system/providers").json()["providers"] if v["name"] == "schwab"
    ]
    return found


def test_an_ended_login_is_told_with_its_remedy(tree):
    until(lambda: schwab(tree)["state"] == "login_needed", 60)
    assert "volaris login schwab" in schwab(tree)["remedy"]
    assert tree.get("/ready").status_code == 503


def test_what_does_not_belong_to_this_login_is_refused(tree):
    for pasted, why in (
        ("https://127.0.0.1/?code=C0.x", "begun here"),
        ("https://127.0.0.1/?code=C0.x&state=1.2", "begun here"),
        ("no address at all", "no code"),
    ):
        code, said = Login(tree).end(pasted + "\n")
        assert code == 1
        assert why in said


def test_the_browser_comes_back_and_the_login_is_kept(tree):
    login = Login(tree)
    assert parse_qs(urlsplit(login.url).query)["state"]
    # What a browser does, with the warning of a certificate that nobody has signed clicked away.
    with httpx.Client(verify=False, follow_redirects=True, timeout=30) as browser:
        page = browser.get(login.url)
    assert page.url.host == "127.0.0.1"
    assert "Volaris has taken the login" in page.text
    code, said = login.end()
    assert code == 0, said
    ends = datetime.fromisoformat(said.split(" until ")[1].strip().replace(" UTC", "+00:00"))
    left = ends - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    until(lambda: schwab(tree)["state"] == "ready", 60)
    until(lambda: tree.get("/api/v1/market/price/AAPL").status_code == 200, 60)
    # It is stored: a pool that is born anew needs no person.
    pid = tree.pids()["provider_pool"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: tree.all_up() and tree.pids()["provider_pool"] != pid, 60)
    until(lambda: schwab(tree)["state"] == "ready" and schwab(tree)["last_answer_at"], 60)


def test_the_address_may_be_pasted_and_a_code_is_good_once(tree):
    login = Login(tree)
    back = httpx.get(login.url, follow_redirects=False, timeout=30).headers["location"]
    code, said = login.end(back + "\n")
    assert code == 0, said
    again, refused = Login(tree).end(back + "\n")
    assert again == 1
    assert "code was refused" in refused
    assert schwab(tree)["state"] == "ready", "a refused code costs nothing"


def test_without_a_tree_it_says_so(tree, tmp_path):
    done = subprocess.run(
        [*VOLARIS, "login", "schwab"],
        env=tree.env | {"VOLARIS_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "volaris up" in done.stderr


def test_who_needs_no_login_is_told(tree):
    done = tree.run("login", "nobody", check=False)
    assert done.returncode == 1
    assert "schwab" in done.stderr
