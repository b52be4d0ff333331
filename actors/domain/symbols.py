"""How symbols are spelled: upper case and dot form inside (BRK.B), each vendor's own way outside."""

import re

SHAPE = re.compile(r"[A-Z][A-Z0-9]{0,5}(\.[A-Z0-9]{1,4})?")
SEPARATORS = {"schwab": "/", "tiingo": "-"}  # before the share class; the others write a dot
INDICES = frozenset({"SPX", "NDX", "RUT", "VIX"})  # Schwab writes a $ before these


def normalise(text: str) -> str:
    """Return a symbol as we spell it; `ValueError` where it cannot be one."""
    symbol = re.sub(r"[/-]", ".", text.strip().upper())
    # Upper-casing can turn what is no letter of a symbol into some: "ß" becomes "SS".
    if not text.isascii() or not SHAPE.fullmatch(symbol):
        raise ValueError(
            f"a symbol is 1 to 6 letters or digits, and a class after a dot (BRK.B), was {text[:20]!r}"
        )
    return symbol


def spelled(symbol: str, vendor: str) -> str:
    """Return our symbol as a vendor spells it."""
    if vendor == "schwab" and symbol in INDICES:
        return f"${symbol}"
    return symbol.replace(".", SEPARATORS.get(vendor, "."))
