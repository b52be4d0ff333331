"""The sandbox's list of the S&P 500: by raw requests and through the adapter."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from actors.domain.universe import seed
from actors.providers.http import Tools
from actors.providers.sp500 import SP500
from actors.settings import CONSTITUENTS, Settings
from sandbox.app import build
from tests.contract.doubles import MemoryBooks, Reversed

MEMBERS = tuple(ticker for ticker in seed() if ticker.kind == "stock")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def sp500(client: httpx.AsyncClient, tmp_path: Path) -> SP500:
    settings = Settings(volaris_home=tmp_path, sp500_url=f"http://127.0.0.1/sp500{CONSTITUENTS}")
    tools = Tools(MemoryBooks(), Reversed, transport=client._transport)
    made = SP500.of(settings, tools)
    assert made is not None
    return made


async def test_it_is_served_as_github_serves_it(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/sp500{CONSTITUENTS}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines[0] == (
        "Symbol,Security,GICS Sector,GICS Sub-Industry,Headquarters Location,Date added,CIK,Founded"
    )
    assert len(lines) == 504
    nowhere = await client.get("/sp500/elsewhere.csv")
    assert (nowhere.status_code, nowhere.text) == (404, "404: Not Found")


async def test_the_adapter_reads_the_shipped_list_back(sp500: SP500) -> None:
    for _ in range(2):  # a line of its own each time
        assert await sp500.constituents(time.monotonic() + 10) == MEMBERS
