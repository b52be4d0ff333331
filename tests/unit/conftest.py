"""Unit tests know no Ray, no network and no sleep."""

import socket

import pytest


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch, request):
    """Fail the test that opens a connection or starts Ray."""

    def refuse(*args, **kwargs):
        raise AssertionError("unit tests must not reach outside their process")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("ray.init", refuse)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """Let no setting of the machine leak into a test."""
    import os

    for name in list(os.environ):
        ours = name.startswith(("VOLARIS_", "SCHWAB_", "DATABASE_URL", "RAY_")) or name == "PORT"
        if ours and name != "VOLARIS_FIXTURES":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
