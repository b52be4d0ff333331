"""How a vendor does, in numbers: latency percentiles of its last answers, error rates of the last hour."""

from collections import deque

ANSWERS = 512  # whose latency is kept
HOUR = 60  # minutes


class Gauge:
    """What one vendor was asked and how it went; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._latencies: deque[float] = deque(maxlen=ANSWERS)
        self._minutes: deque[list[int]] = deque(maxlen=HOUR + 1)  # [minute, asked, failed]

    def took(self, seconds: float) -> None:
        """Note how long a request took, from its turn to the end of its answer."""
        self._latencies.append(seconds)

    def note(self, now: float, *, failed: bool) -> None:
        """Count one question and whether it failed."""
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0, 0])
        self._minutes[-1][1] += 1
        self._minutes[-1][2] += failed

    def latency(self, part: float) -> float | None:
        """Return the seconds within which this part of the last answers came, None where none did."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def error_rate(self, now: float, minutes: int) -> float | None:
        """Return the part of the last minutes' questions that failed, None where none was asked."""
        first = int(now // 60) - minutes
        rows = [row for row in self._minutes if row[0] > first]
        asked = sum(row[1] for row in rows)
        return sum(row[2] for row in rows) / asked if asked else None
