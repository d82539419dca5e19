"""The records of one run, by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

Facts = dict[str, Any]
STEPS = ("ingest", "validate", "features", "train", "evaluate", "register")


@dataclass(frozen=True)
class Run:
    """What the steps left behind. Any step may be missing: then its facts are None."""

    records: dict[str, Facts] = field(default_factory=dict)
    score: Facts | None = None
    seconds: float | None = None
    """Wall time of the whole run, its runner included."""
    zone: tzinfo = UTC
    """Of the moments that the page shows."""

    @classmethod
    def of(cls, records: Sequence[Facts], **more: Any) -> Run:
        by_step = {record["step"]: record for record in records}
        return cls({step: by_step[step] for step in STEPS if step in by_step}, **more)

    def facts(self, step: str) -> Facts | None:
        record = self.records.get(step)
        return record["facts"] if record else None

    def reused(self, step: str) -> bool:
        """Whether the step's result was taken from an earlier run, or found to exist already."""
        record = self.records.get(step, {})
        return bool(record.get("reused") or record.get("facts", {}).get("reused"))

    def ran(self, step: str) -> bool:
        """Whether a process of this run did the step."""
        return step in self.records and not self.records[step].get("reused")

    @property
    def wall_seconds(self) -> float | None:
        """The given wall time, else from the first start to the last end of the steps that ran."""
        if self.seconds is not None:
            return self.seconds
        ran = [record for step, record in self.records.items() if self.ran(step)]
        if not ran:
            return None
        return float(max(r["ended"] for r in ran) - min(r["started"] for r in ran))
