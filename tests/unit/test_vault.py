"""What is sealed is unreadable, unchangeable, and opens with its key only."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from actors.providers.base import Unsealable
from actors.providers.vault import Vault

KEY = "a long enough passphrase"


def test_opens_what_it_sealed() -> None:
    sealed = Vault(KEY).seal(b"refresh token")
    assert b"refresh" not in sealed
    assert Vault(KEY).open(sealed) == b"refresh token"


def test_two_seals_of_the_same_differ() -> None:
    vault = Vault(KEY)
    assert vault.seal(b"x") != vault.seal(b"x")


def test_every_changed_byte_is_noticed() -> None:
    vault = Vault(KEY)
    sealed = base64.urlsafe_b64decode(vault.seal(b"x"))
    for i, byte in enumerate(sealed):
        changed = sealed[:i] + bytes([byte ^ 1]) + sealed[i + 1 :]
        with pytest.raises(Unsealable):
            vault.open(base64.urlsafe_b64encode(changed))


@pytest.mark.parametrize("spoiled", [b"", b"\x00", b"not sealed at all", b"\xff" * 200])
def test_what_was_never_sealed_is_refused(spoiled: bytes) -> None:
    with pytest.raises(Unsealable):
        Vault(KEY).open(spoiled)


def test_another_key_is_refused_with_a_sentence_that_holds_neither() -> None:
    with pytest.raises(Unsealable, match="another key") as caught:
        Vault("another passphrase, also long").open(Vault(KEY).seal(b"x"))
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_short_key_is_refused_without_being_told() -> None:
    with pytest.raises(Unsealable, match="16 characters or more, had 6") as caught:
        Vault("hunter")
    assert "hunter" not in str(caught.value)


def test_a_key_given_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    Vault.of(KEY, file).seal(b"x")
    assert not file.exists()


def test_the_key_file_is_made_once_private_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret.key"
    sealed = Vault.of(None, file).seal(b"x")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Vault.of(None, file).open(sealed) == b"x"
    assert [path.name for path in file.parent.iterdir()] == ["secret.key"]


def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    file, start = tmp_path / "secret.key", Barrier(16)

    def make(_: int) -> Vault:
        start.wait()
        return Vault.of(None, file)

    with ThreadPoolExecutor(16) as threads:
        vaults = list(threads.map(make, range(16)))
    sealed = vaults[0].seal(b"x")
    assert all(vault.open(sealed) == b"x" for vault in vaults)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_file_open_to_others_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    file.write_text(KEY)
    file.chmod(0o644)
    Vault.of(None, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unsealable, match="cannot be used"):
        Vault.of(None, tmp_path / "file" / "secret.key")
