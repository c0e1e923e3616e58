"""What is made of raw rounds: medians with their spread, ratios round by round, and whether a goal is met.

An unknown figure is None everywhere, never 0.
"""

import statistics
from collections.abc import Iterable, Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """Median and quartiles over rounds; with one round the quartiles are unknown."""

    median: float
    q1: float | None
    q3: float | None
    rounds: int

    @property
    def iqr(self) -> float | None:
        return None if self.q1 is None or self.q3 is None else self.q3 - self.q1


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of what is known; None when nothing is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    if len(known) == 1:
        return Spread(known[0], None, None, 1)
    q1, _, q3 = statistics.quantiles(known, n=4, method="inclusive")
    return Spread(statistics.median(known), q1, q3, len(known))


def ratios(values: Sequence[float | None], baseline: Sequence[float | None]) -> list[float | None]:
    """Round by round, because what disturbs the machine disturbs neighbours in time alike."""
    return [None if value is None or not base else value / base for value, base in zip(values, baseline, strict=False)]


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank over sorted values: the smallest with at least ``share`` of them at or below it."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]


def per(total: float | None, count: int | None) -> float | None:
    """``total / count``, unknown when either is or when nothing was counted."""
    return None if total is None or not count else total / count
