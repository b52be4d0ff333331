"""Seals what must be unreadable at rest: the logins of vendors, as they lie in the database.

The key is VOLARIS_SECRET_KEY, or a file in the home that the first use makes.
"""

import base64
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from actors.providers.base import Unsealable

SHORTEST_KEY = 16  # characters; shorter ones can be guessed
KEY_BYTES = 32


class Vault:
    """Authenticated encryption under one key (Fernet)."""

    def __init__(self, key: str) -> None:
        if len(key) < SHORTEST_KEY:
            raise Unsealable(
                f"the secret key needs {SHORTEST_KEY} characters or more, had {len(key)}"
            )
        # A hash, so that any long random text will do as a key; the prefix keeps it ours alone.
        digest = hashlib.sha256(b"volaris vault 1\0" + key.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    @classmethod
    def of(cls, key: str | None, key_file: Path) -> "Vault":
        """Return the vault of the given key, or of the key file, which is made where it is missing."""
        return cls(key or _key_in(key_file))

    def seal(self, plain: bytes) -> bytes:
        """Return `plain` so that only this key can read it and no bit of it can be changed."""
        return self._fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed; `Unsealable` if it was changed or the key was another one."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise Unsealable(
                "the stored login was sealed with another key (VOLARIS_SECRET_KEY or secret.key)"
            ) from None


def _key_in(file: Path) -> str:
    try:
        if not file.exists():
            _make(file)
        with contextlib.suppress(PermissionError):  # the file of another user, who lets us read it
            file.chmod(0o600)  # a copied home may have lost the mode
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not text"
        raise Unsealable(f"the key file {file} cannot be used: {why}") from None


def _make(file: Path) -> None:
    """Make the key file so that it appears whole and once, however many processes are at it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            os.link(draft, file)
    finally:
        draft.unlink()
