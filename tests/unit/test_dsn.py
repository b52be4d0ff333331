"""What may be written in DATABASE_URL, and which errors a repeat can cure."""

import asyncpg
import pytest

from actors.settings import Settings
from actors.store import embedded
from actors.store.database import Database, clean_dsn, curable
from actors.store.embedded import ServerFailed

NEON = "postgresql://me:secret@ep-x-pooler.eu-central-1.aws.neon.tech/db"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"{NEON}?sslmode=require&channel_binding=require", f"{NEON}?sslmode=require"),
        (f"{NEON}?channel_binding=require", NEON),
        (f"{NEON}?sslmode=require", f"{NEON}?sslmode=require"),
        ("postgres://h/db", "postgresql://h/db"),
        (
            "postgresql://postgres@/volaris?host=/a%20b/pg&channel_binding=prefer",
            "postgresql://postgres@/volaris?host=/a+b/pg",
        ),
    ],
)
def test_a_dsn_is_made_fit_for_asyncpg(given, expected):
    assert clean_dsn(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "mysql://me:secret@h/db",
        "postgresql+asyncpg://me:secret@h/db",
        "/var/run",
        "me:secret@h",
    ],
)
def test_what_is_not_postgresql_is_refused_without_its_password(given):
    with pytest.raises(ValueError, match="must start with postgresql://, was ") as refused:
        clean_dsn(given)
    assert "secret" not in str(refused.value)


def test_only_the_homes_own_server_is_healed_and_spared_the_pooler(tmp_path):
    own = Settings(volaris_home=tmp_path, database_url=embedded.address(tmp_path))
    other = Settings(volaris_home=tmp_path, database_url=NEON)
    assert Database.of(own)._heal is not None
    assert Database.of(own)._pooled is False
    assert Database.of(other)._heal is None
    assert Database.of(other)._pooled is True


def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_one(tmp_path):
    long = tmp_path / ("x" * 100)
    assert len(embedded.address(long)) < 100
    assert embedded.address(long) != embedded.address(tmp_path / ("x" * 101))
    assert embedded.address(tmp_path / "a,b").startswith(
        "postgresql://postgres@/volaris?host=/tmp/volaris-"
    )


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.InterfaceError(
            "cannot call Transaction.__aexit__(): the underlying connection is closed"
        ),
        asyncpg.InternalClientError(
            "cannot switch to state 15; another operation (2) is in progress"
        ),
        asyncpg.DeadlockDetectedError(),
        asyncpg.SerializationError(),
        ConnectionRefusedError(),
        FileNotFoundError(),
        TimeoutError(),
        ServerFailed("it did not start"),
    ],
)
def test_faults_are_tried_again(error):
    assert curable(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError(),
        asyncpg.UndefinedTableError(),
        asyncpg.InvalidPasswordError(),
        asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
        asyncpg.exceptions._base.DataError("invalid input for query argument $1"),
        ValueError(),
        KeyError(),
    ],
)
def test_mistakes_are_not(error):
    assert not curable(error)
