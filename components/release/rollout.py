"""Traffic from one version of a model to the next: nothing is taken away before it is replaced.

Everything it knows is in the cluster, in the model's values: killed anywhere, the same call goes on
from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.release import values as on
from components.release.deployed import Deployed, Health
from components.release.lease import Lease, Taken
from slipway.errors import UserError

READY_SECONDS = 420
STUCK_SECONDS = 60
"""How long a pod may stand in an error that others come out of, as a registry that is away."""
CRASHES = 3
"""Restarts of a new version's pods from which it counts as failed."""
GRACE_SECONDS = 10
"""Between the last request for a version and the end of its pods."""
LOOK_SECONDS = 2


class Unhealthy(UserError):
    """The new version does not come up, or does not stay so."""


def roll_out(
    model: Deployed,
    lease: Lease,
    base: Mapping[str, Any],
    entry: Mapping[str, Any],
    steps: Sequence[int],
    hold: float,
    prove: Callable[[], None],
    say: Callable[[str], None],
) -> bool:
    """Have `entry` answer all requests to the model; false if it did already.

    `lease` is the caller's, who holds it since before they chose the version. `base` are the
    model's other values. The version starts without requests, must get ready and
    pass `prove`, gets each of `steps` per cent for `hold` seconds, then all; the one before goes.
    If anything of that fails, or the work is interrupted, the one before has all requests again.
    Raises `Unhealthy` with what is stuck.
    """
    version = entry["version"]
    stored = model.values()
    values = {**(stored or {}), **base}
    values["versions"] = stored["versions"] if stored else []
    values["previous"] = stored["previous"] if stored else {}
    current = on.find(values, version)
    settled = len(values["versions"]) == 1 and on.weight(values, version) == on.ALL
    done = on.same(current, entry) and settled and values == stored
    if done and model.health(version).ready:
        say(f"version {version} serves all requests already")
        return False
    try:
        values = _apply(model, lease, on.put(values, entry))
        _wait(model, version, lease, say)
        prove()
        for percent in steps:
            if on.weight(values, version) < percent and on.incumbent(values, version):
                values = _apply(model, lease, on.shift(values, version, percent))
                say(f"version {version} gets {percent} % of the requests")
                _hold(model, version, lease, hold)
                prove()
        values = _apply(model, lease, on.shift(values, version, on.ALL))
        say(f"version {version} gets all requests")
    except Taken:
        raise
    except BaseException:
        # Also for a SIGTERM: whoever stops a release wants the version before.
        say(f"version {version} is taken back")
        _apply(model, lease, on.back(values, version))
        raise
    rest = on.only(values, version)
    if rest != values:
        time.sleep(GRACE_SECONDS)
        _apply(model, lease, rest)
        gone = {item["version"] for item in values["versions"]} - {version}
        say(f"version {', '.join(sorted(gone))} is gone, and kept for `slipway rollback`")
    return True


def _apply(model: Deployed, lease: Lease, values: dict[str, Any]) -> dict[str, Any]:
    lease.check()
    model.apply(values)
    return values


def _wait(model: Deployed, version: str, lease: Lease, say: Callable[[str], None]) -> None:
    """Until the pods of `version` are ready, all of them and in the settings of now."""
    started, told, stuck_since = time.monotonic(), "", 0.0
    while not (health := model.health(version)).ready:
        lease.check()
        now = time.monotonic()
        state = "; ".join(health.stuck or health.waits)
        if state != told:
            say(f"waits for version {version}: {state}")
            told = state
        stuck_since = (stuck_since or now) if health.stuck else 0.0
        if stuck_since and now - stuck_since > STUCK_SECONDS:
            raise _unhealthy(model, version, health, f"is stuck for {STUCK_SECONDS} s")
        if health.stuck and health.restarts >= CRASHES:
            raise _unhealthy(model, version, health, f"ended {health.restarts} times")
        if now - started > READY_SECONDS:
            raise _unhealthy(model, version, health, f"is not ready after {READY_SECONDS} s")
        time.sleep(LOOK_SECONDS)
    say(f"version {version} is ready after {time.monotonic() - started:.0f} s")


def _hold(model: Deployed, version: str, lease: Lease, seconds: float) -> None:
    """Let it answer a share of the requests for a while. Raises `Unhealthy` if pods restart."""
    restarts = model.health(version).restarts
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(LOOK_SECONDS, seconds))
        lease.check()
        health = model.health(version)
        if health.restarts > restarts or health.stuck:
            raise _unhealthy(model, version, health, "faltered under its first requests")


def _unhealthy(model: Deployed, version: str, health: Health, what: str) -> Unhealthy:
    lines = [*(health.stuck or health.waits), *model.events(version)]
    told = "\n  ".join([f"Version {version} of {model.name} {what}:", *lines])
    return Unhealthy(f"{told}\nIt gets no requests. Mend the cause and release again.")
