"""The bars of the serving runtime, and whether they were reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.serving.cases import Case
from benchmarks.serving.peers import ECHO, OURS, STOCK
from benchmarks.serving.results import Results

Verdict = Literal["PASS", "FAIL", "not asked for"]


@dataclass(frozen=True)
class Bar:
    what: str
    peers: tuple[str, ...]
    case: Case
    figure: Callable[[Results], float | None]
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def wanted(self) -> str:
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {bound:g}{self.unit}"

    def verdict(self, results: Results, asked: set[tuple[str, Case]]) -> Verdict:
        """A figure that was asked for and could not be had is a FAIL."""
        if any((peer, self.case) not in asked for peer in self.peers):
            return "not asked for"
        found = self.figure(results)
        if found is None:
            return "FAIL"
        high_enough = self.least is None or found >= self.least
        return "PASS" if high_enough and (self.most is None or found <= self.most) else "FAIL"


def bars() -> Iterator[Bar]:
    for protocol, name in (("v1", "V1"), ("v2", "V2")):
        one, hundred = Case(protocol, 1, 16), Case(protocol, 100, 16)
        yield _against(f"{name}, 1 row, 16 connections: rate against stock", STOCK, one, 10)
        yield Bar(
            f"{name}, 1 row, 16 connections: p99 against stock's",
            (OURS, STOCK),
            one,
            lambda results, case=one: _p99_ratio(results, case),
            most=1,
            unit=" x",
        )
        yield _against(f"{name}, 1 row, 16 connections: rate against the echo", ECHO, one, 0.8)
        yield _against(f"{name}, 100 rows, 16 connections: rate against stock", STOCK, hundred, 3)
    grpc = Case("grpc", 1, 16)
    yield _against("gRPC, 1 row, 16 connections: rate against stock", STOCK, grpc, 3)
    alone, many = Case("features", 1, 1), Case("features", 1, 16)
    for store, name in (("sqlite", "SQLite"), ("redis", "Redis")):
        ours, stock = f"combined-{store}", f"kserve-feast-{store}"
        yield Bar(
            f"combined, {name}, 1 row, 1 connection: p50",
            (ours,),
            alone,
            lambda results, ours=ours: results.middle(ours, alone, "p50_ms"),
            most=0.6,
            unit=" ms",
        )
        yield Bar(
            f"combined, {name}, 1 row, 16 connections: rate against stock with Feast's SDK",
            (ours, stock),
            many,
            lambda results, ours=ours, stock=stock: results.ratio(ours, stock, many),
            least=4,
            unit=" x",
        )
    case = Case("v1", 1, 16)
    yield Bar(
        "V1, 1 row, 16 connections: p99 beside 200 stalled clients against alone",
        (OURS,),
        case,
        lambda results: results.stalled_ratio(OURS),
        most=2,
        unit=" x",
    )
    yield Bar(
        "predictor: start to first right answer",
        (OURS,),
        case,
        lambda results: results.start(OURS),
        most=2,
        unit=" s",
    )
    yield Bar(
        "predictor: memory after load",
        (OURS,),
        case,
        lambda results: results.megabytes(OURS),
        most=120,
        unit=" MB",
    )


def _against(what: str, other: str, case: Case, least: float) -> Bar:
    return Bar(
        what,
        (OURS, other),
        case,
        lambda results: results.ratio(OURS, other, case),
        least=least,
        unit=" x",
    )


def _p99_ratio(results: Results, case: Case) -> float | None:
    ours, stock = (results.middle(peer, case, "p99_ms") for peer in (OURS, STOCK))
    return ours / stock if ours is not None and stock is not None else None
