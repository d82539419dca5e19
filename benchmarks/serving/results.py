"""What was measured, round by round, and the figures that are read from it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.serving.cases import Case
from benchmarks.serving.load import Load


@dataclass
class Results:
    loads: dict[str, dict[Case, dict[int, Load]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By server, by case, by round."""
    starts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds to the first right answer, of each round."""
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """MB after the load, of each round."""
    stalled: dict[str, list[tuple[Load, Load]]] = field(default_factory=lambda: defaultdict(list))
    """By server, of each round: alone, and beside stalled clients."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a server, or `server case`, has no figures: the first reason."""

    def fail(self, what: str, why: str) -> None:
        self.failures.setdefault(what, why)

    def middle(self, peer: str, case: Case, figure: str) -> float | None:
        """The median of a field of `Load` over the rounds."""
        rounds = self.loads.get(peer, {}).get(case, {})
        return median(getattr(load, figure) for load in rounds.values()) if rounds else None

    def ratio(self, peer: str, other: str, case: Case) -> float | None:
        """The median of the rounds' ratios: a round's two figures were taken side by side."""
        mine, theirs = (self.loads.get(name, {}).get(case, {}) for name in (peer, other))
        both = [mine[at].rate / theirs[at].rate for at in mine.keys() & theirs.keys()]
        return median(both) if both else None

    def start(self, peer: str) -> float | None:
        return median(self.starts[peer]) if self.starts.get(peer) else None

    def megabytes(self, peer: str) -> float | None:
        return median(self.memory[peer]) if self.memory.get(peer) else None

    def stalled_ratio(self, peer: str) -> float | None:
        """The median of the rounds' p99 beside stalled clients to that without."""
        rounds = self.stalled.get(peer, [])
        return median(beside.p99_ms / alone.p99_ms for alone, beside in rounds) if rounds else None

    def to_json(self) -> dict[str, Any]:
        return {
            "loads": [
                {"server": peer, **case._asdict(), "round": at, **load._asdict()}
                for peer, cases in self.loads.items()
                for case, rounds in cases.items()
                for at, load in sorted(rounds.items())
            ],
            "seconds_to_first_answer": dict(self.starts),
            "stalled": {
                peer: [[load._asdict() for load in pair] for pair in rounds]
                for peer, rounds in self.stalled.items()
            },
            "memory_mb": dict(self.memory),
            "failures": self.failures,
        }
