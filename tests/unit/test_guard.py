"""The API's guard: foreign pages, foreign names and bodies without end are not let in."""

import httpx
import pytest
from fastapi import FastAPI, Request

from api.guard import LARGEST_BODY, Guard

app = FastAPI()


@app.post("/there")
async def take(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@app.get("/there")
async def give() -> dict[str, bool]:
    return {"here": True}


def client(*, loopback=True, base="http://127.0.0.1:8000"):
    transport = httpx.ASGITransport(Guard(app, loopback=loopback))
    return httpx.AsyncClient(transport=transport, base_url=base)


@pytest.mark.parametrize("name", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST"])
async def test_this_machine_is_let_in(name):
    async with client() as http:
        assert (await http.get("/there", headers={"host": name})).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
async def test_a_name_of_somebody_else_is_misdirected(name):
    async with client() as http:
        answer = await http.get("/there", headers={"host": name})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert "127.0.0.1" in answer.json()["detail"]


async def test_a_public_address_has_names_of_its_own():
    async with client(loopback=False, base="https://volaris.example") as http:
        assert (await http.get("/there")).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9"])
async def test_a_page_of_another_site_changes_nothing(origin):
    async with client() as http:
        headers = {"origin": origin, "content-type": "text/plain"}
        assert (await http.post("/there", content=b"{}", headers=headers)).status_code == 403
        assert (await http.get("/there", headers={"origin": origin})).status_code == 200


async def test_our_own_page_may():
    async with client() as http:
        headers = {"origin": "http://127.0.0.1:8000"}
        assert (await http.post("/there", content=b"{}", headers=headers)).json() == {"bytes": 2}


async def test_a_large_body_is_refused_by_its_length_before_it_is_read():
    async with client() as http:
        answer = await http.post("/there", content=b"x" * (LARGEST_BODY + 1))
        assert (answer.status_code, answer.json()["title"]) == (413, "Content Too Large")
        fits = await http.post("/there", content=b"x" * LARGEST_BODY)
        assert fits.json() == {"bytes": LARGEST_BODY}


async def test_a_body_without_end_is_refused_where_it_becomes_too_large():
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    async with client() as http:
        answer = await http.post("/there", content=endless())
    assert answer.status_code == 413
    assert sent < LARGEST_BODY + 4 * 65_536
