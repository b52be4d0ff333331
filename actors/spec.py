"""The words `tree.py` is written in: Child, Budget, Intensity, Restart."""

from dataclasses import dataclass
from enum import StrEnum

MIB = 1 << 20


class Restart(StrEnum):
    """How a child over its soft budget is relieved."""

    BESIDE = "beside"  # its successor starts beside it, takes over, then the old one drains
    DRAIN_FIRST = "drain_first"  # there may be only one: it drains, stops, and then starts anew


@dataclass(frozen=True, slots=True)
class Budget:
    """Private memory one process may hold, in bytes: relieved at `soft`, killed at `hard`."""

    soft: int
    hard: int

    def __post_init__(self) -> None:
        if not 0 < self.soft < self.hard:
            raise ValueError(
                f"soft must be above 0 and below hard, were {self.soft // MIB} and {self.hard // MIB} MiB"
            )


def mib(soft: int, hard: int) -> Budget:
    """Return a budget given in MiB, the unit the tree is written in."""
    return Budget(soft * MIB, hard * MIB)


@dataclass(frozen=True, slots=True)
class Intensity:
    """How many failures a child may have in so many seconds before it is given up (OTP's words)."""

    restarts: int = 5
    seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One supervised process (OTP's child spec)."""

    id: str
    start: str  # "module:Class", imported only inside the child's own process
    memory: Budget
    restart: Restart = Restart.BESIDE
    intensity: Intensity = Intensity()
    ready_within: float = 90.0  # seconds from the order to start until it must have answered
    drain: float = 10.0  # seconds to finish the work in hand before it is killed
    check: str | None = (
        None  # "module:function(settings)" that refuses settings before anything starts
    )
    hang_after: float = 10.0  # seconds without a sign of life until it is killed as hung
    young: float = 60.0  # seconds: a process over its budget before this age never fitted
    stable_after: float = (
        600.0  # healthy seconds after which the backoff starts afresh (Kubernetes')
    )
    looks: int = 8  # consecutive looks over soft that make a leak of a spike
    place: str | None = None  # a resource of the Ray nodes that may run it; None = the root's own
