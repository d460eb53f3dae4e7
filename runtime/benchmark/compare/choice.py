"""Choose among candidates: the fastest that agrees, and of equally fast ones the smallest."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime.console import bytes_text, count_of

_ALIKE = 1.02
"""Ratio of times or of bytes below which two candidates count as alike."""
_FEW = 4
"""Rounds below which a difference may be chance."""


@dataclass(frozen=True)
class Choice:
    """The candidate to use, and why."""

    row: dict[str, Any] | None
    """Its row; None if nothing can be chosen."""
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Ratio:
    """Times of one candidate as multiples of another's in the same rounds."""

    low: float
    """Lower quartile."""
    middle: float
    high: float
    rounds: int

    @property
    def alike(self) -> bool:
        """Whether the difference is within the noise of the rounds."""
        return self.low <= 1 or self.middle < _ALIKE

    def __str__(self) -> str:
        spread = f" (quartiles {self.low:.2f} to {self.high:.2f})" if self.rounds > 1 else ""
        return f"{self.middle:.2f} x{spread}"


def ratio(slow: dict[str, Any], fast: dict[str, Any]) -> Ratio:
    """Return the ratio of two rows' median times in the rounds that both took part in."""
    rounds = zip(slow["round_ms"], fast["round_ms"], strict=True)
    pairs = [a / b for a, b in rounds if a is not None and b is not None]
    if len(pairs) < 2:
        whole = slow["predict_ms"]["p50"] / fast["predict_ms"]["p50"]
        return Ratio(whole, whole, whole, len(pairs))
    low, middle, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return Ratio(low, middle, high, len(pairs))


def memory(row: dict[str, Any]) -> int:
    """Return the bytes that a candidate takes on the host and on the GPU together."""
    return int(row["peak_rss_bytes"] + (row["device_bytes"] or 0))


def choose(rows: Sequence[dict[str, Any]], interrupted: bool) -> Choice:
    """Return the candidate to use.

    Args:
        rows: Rows of the report; `problem` is None where no answers were compared.
        interrupted: Whether the comparison was interrupted.
    """
    timed = [row for row in rows if row["predict_ms"] is not None]
    known = [row for row in timed if row["problem"] is not None]
    agreeing = [row for row in known if not row["problem"]]
    if not agreeing:
        return Choice(None, (_nothing(rows, interrupted),))
    fastest = min(agreeing, key=lambda row: row["predict_ms"]["p50"])
    ratios = {row["name"]: ratio(row, fastest) for row in agreeing if row is not fastest}
    alike = [row for row in agreeing if row is fastest or ratios[row["name"]].alike]
    least = min(memory(row) for row in alike)
    best = next(row for row in alike if memory(row) <= _ALIKE * least)
    sentences = [f"choose {best['chosen_by']}: {_why(best, agreeing, alike)}"]
    sentences += [
        f"{row['name']} takes {ratios[row['name']]} the time of {fastest['name']}, and "
        f"{bytes_text(memory(row))}"
        for row in alike
        if row is not fastest
    ]
    sentences += [
        f"{row['name']} would be faster ({row['predict_ms']['p50']:.3g} ms), but {row['problem']}"
        for row in known
        if row["problem"] and row["predict_ms"]["p50"] < best["predict_ms"]["p50"]
    ]
    rounds = sum(each is not None for each in best["round_ms"])
    if len(agreeing) > 1 and rounds < _FEW:
        sentences.append(
            f"with {count_of(rounds, 'round')} of calls, differences may be chance; measure "
            "longer, with more --samples"
        )
    return Choice(best, tuple(sentences))


def _why(
    best: dict[str, Any], agreeing: Sequence[dict[str, Any]], alike: Sequence[dict[str, Any]]
) -> str:
    ms, size = f"{best['predict_ms']['p50']:.3g} ms", bytes_text(memory(best))
    if len(agreeing) == 1:
        return f"{ms}, the only one that runs here and agrees with the reference"
    if len(alike) == 1:
        return f"{ms}, the fastest of the {len(agreeing)} that agree with the reference"
    return (
        f"{ms} and {size}, the smallest of the {len(alike)} that agree with the reference and are "
        "as fast within the noise"
    )


def _nothing(rows: Sequence[dict[str, Any]], interrupted: bool) -> str:
    if interrupted:
        return "nothing can be chosen: it was interrupted before speed and answers were compared"
    if not rows:
        return "nothing can be chosen: nothing runs here, see the reasons"
    return "nothing can be chosen: every way failed before the answers were compared"
