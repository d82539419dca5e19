"""Slipway's server beside those of others: `make bench-serving`.

Exits with 1 if a bar is missed, a server fails, or one cannot be installed.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import click

from benchmarks.serving import load
from benchmarks.serving.cases import BARS, CASES, Case, WrongAnswer
from benchmarks.serving.environments import HOME, NotInstalled, environment
from benchmarks.serving.peers import OURS, PEERS, Peer, Place
from benchmarks.serving.report import bar_rows, page, picture
from benchmarks.serving.results import Results
from benchmarks.serving.running import HOST, ROOT, STALLED, running
from benchmarks.serving.workload import Files, make
from slipway.errors import UserError
from slipway.files import write_json, write_text

WARM_SECONDS = 1
STALLED_CASE = Case("v1", 1, 16)


@click.command()
@click.option("--peers", default="*", show_default=True, help="Names or patterns, with commas.")
@click.option("--cases", default="*", show_default=True, help="Such as 'v1/*/16,grpc/1/*'.")
@click.option("--seconds", default=2, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One round of 1 s of the cases that have bars.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: docs/benchmarks; "
              ".bench/results if less than all is measured]")  # fmt: skip
def main(peers: str, cases: str, seconds: int, rounds: int, quick: bool, out: Path | None) -> None:
    """Measure, write the page, and say whether the bars are reached."""
    try:
        chosen, wanted = _chosen(peers, cases, quick)
        load.require(load.PROGRAMS)
        if any("features" in peer.paths for peer in chosen):
            load.require(load.REDIS)
        cores = _cores()
    except UserError as error:
        raise SystemExit(str(error)) from None
    if quick:
        seconds, rounds = 1, 1
    whole = len(chosen) == len(PEERS) and len(wanted) == len(CASES)
    asked = {(peer.name, case) for peer in chosen for case in wanted if case.protocol in peer.paths}
    # The load's core is also ours: nothing of us runs where the server does.
    os.sched_setaffinity(0, {cores[1]})
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        pythons = _install(chosen, results)
        work = Path(folder)
        needs_store = any(protocol == "features" for _, (protocol, *_) in asked)
        with _redis(work, cores[1]) if needs_store else nullcontext() as redis:
            click.echo("Making the models and the feature stores")
            files = make(work, redis)
            for at in range(rounds):
                order = chosen if at % 2 == 0 else chosen[::-1]
                for number, peer in enumerate(order, 1):
                    if peer.name in pythons:
                        place = _place(pythons[peer.name], files, work / f"{at}-{peer.name}")
                        click.echo(f"round {at + 1}/{rounds}, {number}/{len(order)} {peer.name}")
                        _measure(peer, place, [c for c in wanted if (peer.name, c) in asked],
                                 cores, at, seconds, results)  # fmt: skip
    folder_out = out or (ROOT / "docs" / "benchmarks" if whole else HOME / "results")
    facts = _facts(cores, seconds, rounds)
    _write(folder_out, results, asked, facts)
    missed = _summary(results, asked)
    click.echo(f"Written to {folder_out}/serving.md")
    sys.exit(1 if missed or results.failures else 0)


def _chosen(peers: str, cases: str, quick: bool) -> tuple[list[Peer], list[Case]]:
    """Raises `UserError` for a pattern that nothing fits."""
    found_peers, found_cases = [], []
    for pattern in peers.split(","):
        fit = [peer for peer in PEERS if fnmatch(peer.name, pattern)]
        if not fit:
            raise UserError(
                f"--peers {pattern}: there is none.", f"Known: {', '.join(p.name for p in PEERS)}."
            )
        found_peers += fit
    for pattern in cases.split(","):
        fits = [case for case in CASES if fnmatch(str(case), pattern)]
        if not fits:
            raise UserError(
                f"--cases {pattern}: there is none.", "They are PROTOCOL/ROWS/CONNECTIONS."
            )
        found_cases += fits
    wanted = [case for case in CASES if case in found_cases and (case in BARS or not quick)]
    chosen = [
        peer
        for peer in PEERS
        if peer in found_peers and any(case.protocol in peer.paths for case in wanted)
    ]
    return chosen, wanted


def _cores() -> tuple[int, int]:
    """One for the server, one for the load. Raises `UserError` where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UserError("There is one core here.", "Measure where there are two.")
    siblings = Path(f"/sys/devices/system/cpu/cpu{cores[0]}/topology/thread_siblings_list")
    shared = siblings.read_text().strip() if siblings.is_file() else ""
    others = [core for core in cores[1:] if str(core) not in shared.replace("-", ",").split(",")]
    return cores[0], (others or cores[1:])[0]


def _install(chosen: list[Peer], results: Results) -> dict[str, Path]:
    """The Python of each server; what cannot be installed is a failure of the run."""
    pythons = {}
    for peer in chosen:
        if not peer.environment:
            pythons[peer.name] = Path(sys.executable)
            continue
        try:
            pythons[peer.name] = environment(peer.environment) / "bin" / "python"
        except NotInstalled as error:
            click.echo(f"{peer.name}: CANNOT BE INSTALLED: {error}", err=True)
            results.fail(peer.name, f"cannot be installed: {error}")
    return pythons


def _measure(
    peer: Peer,
    place: Place,
    cases: list[Case],
    cores: tuple[int, int],
    at: int,
    seconds: int,
    results: Results,
) -> None:
    try:
        with running(peer, place, cores) as (server, start):
            results.starts[peer.name].append(start)
            warm = set()
            for case in cases:
                try:
                    if case.protocol not in warm:
                        warm.add(case.protocol)
                        server.warm(case, WARM_SECONDS)
                    found = server.measure(case, seconds)
                except WrongAnswer as error:
                    click.echo(f"  {case!s:<14} FAILED: {error}", err=True)
                    results.fail(f"{peer.name} {case}", str(error))
                    server.check_alive()
                    continue
                results.loads[peer.name][case][at] = found
                click.echo(
                    f"  {case!s:<14} {found.rate:10,.0f} req/s  "
                    f"p50 {found.p50_ms:7.2f} ms  p99 {found.p99_ms:7.2f} ms  "
                    f"{found.cpu_us:6,.0f} µs CPU"
                )
            if peer.name == OURS and STALLED_CASE in cases:
                pair = server.measure_stalled(STALLED_CASE, seconds)
                results.stalled[peer.name].append(pair)
                click.echo(f"  {STALLED} stalled clients: p99 {pair[1].p99_ms:.2f} ms, "
                           f"{pair[0].p99_ms:.2f} without")  # fmt: skip
            results.memory[peer.name].append(server.memory_mb())
            click.echo(f"  ready after {start:.2f} s, {server.memory_mb():,.0f} MB")
    except WrongAnswer as error:
        click.echo(f"  {peer.name} FAILED: {error}", err=True)
        results.fail(peer.name, str(error))


def _place(python: Path, files: Files, folder: Path) -> Place:
    folder.mkdir()
    probes = [socket.socket() for _ in range(4)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        port, *spare = (probe.getsockname()[1] for probe in probes)
    finally:
        for probe in probes:
            probe.close()
    return Place(python, files, folder, port, (spare[0], spare[1], spare[2]))


@contextmanager
def _redis(folder: Path, core: int) -> Iterator[str]:
    """HOST:PORT of an empty Redis that keeps nothing. Raises `UserError`."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(*load.pinned(core), "redis-server", "--bind", HOST, "--port", str(port)),
            *("--save", "", "--appendonly", "no", "--dir", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        from redis import Redis
        from redis.backoff import ConstantBackoff
        from redis.retry import Retry

        with closing(Redis(HOST, port, retry=Retry(ConstantBackoff(0.1), 50))) as client:
            client.ping()
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


def _facts(cores: tuple[int, int], seconds: int, rounds: int) -> dict[str, str]:
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")]
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "code": revision.stdout.strip() or "not a git checkout",
        "machine": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}",
        "cores": f"server {cores[0]}, load {cores[1]}",
        "python": platform.python_version(),
        "rounds": f"{rounds} of {seconds} s",
    }


def _write(
    folder: Path, results: Results, asked: set[tuple[str, Case]], facts: dict[str, str]
) -> None:
    write_json(folder / "serving.json", {"facts": facts, **results.to_json()})
    write_text(folder / "serving.svg", picture(results))
    write_text(folder / "serving.md", page(results, asked, facts, "serving.svg"))


def _summary(results: Results, asked: set[tuple[str, Case]]) -> bool:
    """Print the bars; whether one was missed."""
    rows = bar_rows(results, asked)
    for what, wanted, found, verdict in rows:
        click.echo(f"{verdict:<14}{what:<75} wanted {wanted:<9} found {found}")
    return any(verdict == "FAIL" for *_, verdict in rows)


if __name__ == "__main__":
    main()
