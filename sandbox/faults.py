"""Faults on demand: the rules, and which of them strikes.

A rule is ``{"vendor", "kind", "rate"?, "seconds"?, "status"?, "path"?, "count"?}``.  The first rule
that strikes decides what happens to a request; a latency only delays it and lets the others have
their say.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

VENDORS = ("schwab", "tiingo", "alpaca", "polygon", "finnhub", "databento", "sp500", "discord")
ANY = "*"
MOST_RULES = 64


class Kind(StrEnum):
    """What can go wrong."""

    LATENCY = "latency"  # answers `seconds` later
    STATUS = "status"  # an HTTP error status, in the vendor's words
    GARBAGE = "garbage"  # JSON that ends in the middle
    HTML = "html"  # a page of the vendor's gateway where JSON was expected
    HANG = "hang"  # no answer until the client leaves, or for `seconds`
    CUT = "cut"  # the connection ends in the middle of the body
    THROTTLE = "throttle"  # 429
    NAN = "nan"  # -999.0, "NaN", null and missing keys strewn into the numbers
    TYPES = "types"  # texts, lists and objects where numbers and texts were
    TEXT = "text"  # status 200 with the body of an error, 429 or `status`
    BIG = "big"  # a good answer, drowned in 20 MB


class Unusable(Exception):
    """Something sent to the sandbox cannot be used: which field, why, and what would do."""

    def __init__(self, field: str, why: str, remedy: str) -> None:
        super().__init__(field, why, remedy)
        self.field, self.why, self.remedy = field, why, remedy

    def __str__(self) -> str:
        return f"{self.field}: {self.why}; {self.remedy}"


@dataclass(slots=True)
class Fault:
    """One rule."""

    vendor: str
    kind: Kind
    rate: float = 1.0
    seconds: float | None = None
    status: int | None = None
    path: str | None = None
    count: int | None = None  # how often it may still strike; None is for ever
    id: int = 0
    hits: int = 0

    def fits(self, vendor: str, path: str) -> bool:
        """Say whether the rule is about this vendor and path."""
        return self.vendor in {ANY, vendor} and (self.path is None or self.path in path)

    def told(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        told: dict[str, Any] = {"id": self.id, "vendor": self.vendor, "kind": self.kind.value}
        told["rate"] = self.rate
        for name in ("seconds", "status", "path", "count"):
            if (value := getattr(self, name)) is not None:
                told[name] = value
        return told | {"hits": self.hits}


def parsed(rule: object) -> Fault:
    """Return a rule from what a person sent."""
    if not isinstance(rule, dict):
        raise Unusable("fault", f"a {type(rule).__name__}", 'send {"vendor": …, "kind": …}')
    unknown = set(rule) - {"vendor", "kind", "rate", "seconds", "status", "path", "count"}
    if unknown:
        name = min(map(str, unknown))
        known = "vendor, kind, rate, seconds, status, path and count"
        raise Unusable(name, "there is no such field", f"known are {known}")
    vendor, kind = rule.get("vendor"), rule.get("kind")
    if vendor not in (*VENDORS, ANY):
        raise Unusable("vendor", f"was {vendor!r}", f"use one of {', '.join((*VENDORS, ANY))}")
    if kind not in tuple(Kind):
        raise Unusable("kind", f"was {kind!r}", f"use one of {', '.join(Kind)}")
    status = _number(rule, "status", 100, 599)
    if status is None and kind == Kind.STATUS:
        raise Unusable("status", "is missing", "a fault of kind status needs one, as 503")
    if kind == Kind.STATUS and status is not None and status < 400:
        raise Unusable("status", f"was {status:g}", "use an error status, 400 to 599")
    rate = _number(rule, "rate", 0, 1)
    count = _number(rule, "count", 1, 10**9)
    path = rule.get("path")
    if path is not None and not isinstance(path, str):
        raise Unusable("path", f"was {path!r}", "use a part of the path, as /quotes")
    return Fault(
        vendor=vendor,
        kind=Kind(kind),
        rate=1.0 if rate is None else float(rate),
        seconds=_number(rule, "seconds", 0, 3600),
        status=None if status is None else int(status),
        path=path or None,
        count=None if count is None else int(count),
    )


def _number(rule: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = rule.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Unusable(name, f"was {value!r}", f"use a number from {low:g} to {high:g}")
    return value


class Faults:
    """The rules in force; which requests they strike is decided by a seeded generator."""

    def __init__(self, seed: int, rules: Iterable[Fault] = ()) -> None:
        self.random = random.Random(seed)  # noqa: S311  (repeatable on purpose)
        self._rules: list[Fault] = []
        self._next = 1
        self.add(rules)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._rules))

    def add(self, rules: Iterable[Fault]) -> None:
        """Put rules in force, all or none."""
        new = list(rules)
        if len(self._rules) + len(new) > MOST_RULES:
            raise Unusable("fault", f"more than {MOST_RULES} rules", "clear some first")
        for rule in new:
            rule.id, self._next = self._next, self._next + 1
            self._rules.append(rule)

    def clear(self) -> None:
        """Put every rule out of force."""
        self._rules.clear()

    def remove(self, number: int) -> bool:
        """Put one rule out of force; say whether there was one."""
        before = len(self._rules)
        self._rules = [rule for rule in self._rules if rule.id != number]
        return len(self._rules) < before

    def strike(self, vendor: str, path: str) -> tuple[float, Fault | None]:
        """Return by how many seconds a request is delayed, and what else happens to it."""
        delay = 0.0
        for rule in tuple(self._rules):
            if not rule.fits(vendor, path) or self.random.random() >= rule.rate:
                continue
            self._use(rule)
            if rule.kind is not Kind.LATENCY:
                return delay, rule
            delay += 1.0 if rule.seconds is None else rule.seconds
        return delay, None

    def _use(self, rule: Fault) -> None:
        rule.hits += 1
        if rule.count is not None:
            rule.count -= 1
            if rule.count == 0:
                self._rules.remove(rule)
