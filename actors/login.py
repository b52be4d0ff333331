"""`volaris login`: a person logs in at a vendor in a browser, and the running tree keeps the login.

The browser comes back to the app's registered callback.  Where that is this machine, we listen there for
it; everywhere the address can be pasted instead.
"""

import asyncio
import contextlib
import ipaddress
import ssl
import sys
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx

PATIENCE = 600.0  # seconds for the person
ASK_WITHIN = 30.0
READ_WITHIN = 10.0
LONGEST_LINE = 16_384

PAGE = (
    "<!doctype html><title>Volaris</title><p>Volaris has taken the login; the terminal says whether it"
    " was accepted. You may close this page."
)

Say = Callable[[str], None]


class LoginFailed(Exception):
    """There is no login; the message says why and what to do."""


async def log_in(vendor: str, api: str, say: Say, *, browser: bool) -> datetime:
    """Lead a person through a login at `vendor`; return when it ends."""
    url = f"{api}/api/v1/providers/{vendor}/login"
    async with httpx.AsyncClient(timeout=ASK_WITHIN, trust_env=False) as client:
        begun = await _told(client.get(url))
        back = urlsplit(begun["redirect_uri"])
        say(f"Open this address in a browser and log in:\n\n  {begun['authorize_url']}\n")
        if browser:
            await asyncio.to_thread(webbrowser.open, begun["authorize_url"])
        async with _listening(back, say) as called:
            say(
                f"Waiting for the browser to come back to {begun['redirect_uri']} ... or paste here"
                " the address it was sent to, and press Enter:"
            )
            redirected = await _first(called, PATIENCE)
        # The code is good for 30 seconds only: nothing may come in between.
        told = await _told(client.post(url, json={"redirected_to": redirected}))
    return datetime.fromisoformat(told["expires_at"])


async def _told(asked: Awaitable[httpx.Response]) -> dict[str, str]:
    try:
        answer = await asked
        body: dict[str, str] = answer.json()
    except (httpx.HTTPError, ValueError) as e:
        raise LoginFailed(f"the API does not answer ({type(e).__name__})") from None
    if answer.is_error:
        raise LoginFailed(body.get("detail", f"the API answered {answer.status_code}"))
    return body


async def _first(called: "asyncio.Future[str] | None", seconds: float) -> str:
    """Return the address that comes first, from the browser or from the keyboard."""
    typed = asyncio.ensure_future(_typed())
    waiting: set[asyncio.Future[str]] = {typed} if called is None else {called, typed}
    try:
        async with asyncio.timeout(seconds):
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    if answer := one.result():
                        return answer
    except TimeoutError:
        raise LoginFailed(f"nobody logged in within {seconds / 60:g} minutes") from None
    finally:
        typed.cancel()
    raise LoginFailed("there is neither a keyboard nor a browser that could come back here")


async def _typed() -> str:
    """Return the first line that is typed; "" where there is no keyboard, or no more of it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    with contextlib.suppress(OSError, ValueError):  # a file or nothing for standard input
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if text := line.decode(errors="replace").strip():
                return text
    return ""


@contextlib.asynccontextmanager
async def _listening(back: SplitResult, say: Say) -> AsyncIterator["asyncio.Future[str] | None"]:
    """Listen for the browser, where the callback is this machine; the future is its address."""
    if not _here(back.hostname):
        yield None
        return
    called: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(READ_WITHIN):
                line = (await reader.readline()).decode("latin-1").split()
                while (await reader.readline()).strip():
                    pass
                target = line[1] if len(line) == 3 else "/"
                body = PAGE if "code=" in target else "<!doctype html><p>There is no code in it."
                head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
                if "code=" in target and not called.done():
                    called.set_result(f"{back.scheme}://{back.netloc}{target}")
        writer.close()

    try:
        server = await asyncio.start_server(
            answer,
            back.hostname,
            back.port or (443 if back.scheme == "https" else 80),
            ssl=_context() if back.scheme == "https" else None,
        )
    except OSError as e:
        say(f"(cannot listen on {back.netloc}: {e.strerror}; paste the address instead)")
        yield None
        return
    if back.scheme == "https":
        say("The browser will warn of our own certificate at the end: go on, it is this machine.")
    try:
        yield called
    finally:
        server.close()


def _here(host: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return False


def _context() -> ssl.SSLContext:
    """Return TLS with a certificate of our own for this machine, good for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Volaris login")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # `ssl` reads keys from files only
        both = Path(folder) / "both.pem"
        both.touch(mode=0o600)
        both.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(both)
    return context
