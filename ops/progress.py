"""What a person sees while Helm waits: every few seconds, who is not ready and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from ops import helm
from ops.cluster import Cluster, ClusterError, Object
from ops.health import KINDS, Problem, problems
from slipway.errors import UserError

PAUSE = 3.0
AGAIN = 30.0
"""Seconds after which an unchanged line is told again."""
HOPELESS = ("cannot be pulled", "cannot start:")
OF_JOBS = (*HOPELESS, "ended (")
"""A job may try again for long; whoever waits for it is told after the first time."""
PATIENCE = 75.0
"""Seconds that a hopeless state may last: a registry or a secret may come a little later."""
INSTANCE = "app.kubernetes.io/instance"
RELEASE = "meta.helm.sh/release-name"


class Watch(threading.Thread):
    """Looks at some namespaces until it is stopped; `stuck` is what will not mend itself."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Iterable[str],
        say: Callable[[str], None],
        renew: Callable[[], None],
    ) -> None:
        super().__init__(daemon=True)
        self.cluster, self.say, self.renew = cluster, say, renew
        self.namespaces = set(namespaces)
        self.last: list[Problem] = []
        self.stuck: Problem | None = None
        self.lost: UserError | None = None
        """Somebody else took the lease."""
        self._end = threading.Event()
        self._told: dict[str, tuple[str, float]] = {}
        self._since: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        while not self._end.is_set():
            try:
                self.renew()
                self.look()
            except UserError as error:
                self.lost = error
                return
            except ClusterError as error:
                self._tell("cluster", f"the cluster does not answer ({error})")
            self._end.wait(PAUSE)

    def stop(self) -> None:
        self._end.set()
        self.join()

    def look(self) -> None:
        """One look; also called once more after a failure, for the closing sentence."""
        objects = self.cluster.get(KINDS)
        ours = [one for one in objects if one["metadata"].get("namespace", "") in self.namespaces]
        nodes = [one for one in objects if one["kind"] == "Node"]
        seen = problems([*ours, *nodes], self.cluster.last_line)
        # Lone pods are steps of runs, which nobody waits for here.
        found = [p for p in seen if p.kind != "Pod" and (not p.warning or p.kind == "Job")]
        now = time.monotonic()
        for problem in found:
            self._tell(f"{problem.kind} {problem.where}", str(problem))
        for key in set(self._told) - {f"{p.kind} {p.where}" for p in found} - {"cluster"}:
            if self._told.pop(key)[0]:
                self.say(f"{key}: ready")
        at_work = _made_by(ours, helm.pending(self.cluster))
        hopeless = {
            (p.where, word): p
            for p in found
            for word in (OF_JOBS if p.kind == "Job" else HOPELESS)
            if word in p.why and (p.kind, p.namespace, p.name) in at_work
        }
        self._since = {key: self._since.get(key, now) for key in hopeless}
        overdue = [p for key, p in hopeless.items() if now - self._since[key] > PATIENCE]
        self.last, self.stuck = found, overdue[0] if overdue else None

    def _tell(self, key: str, text: str) -> None:
        """New words at once, the same ones only now and then."""
        known, at = self._told.get(key, ("", 0.0))
        if text != known or time.monotonic() - at > AGAIN:
            self._told[key] = (text, time.monotonic())
            self.say(text)


def _made_by(objects: Iterable[Object], releases: set[str]) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of what belongs to these releases; what an earlier deploy left
    broken is not hopeless before Helm comes to it."""
    return {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        for one in objects
        if one["metadata"].get("annotations", {}).get(RELEASE) in releases
        or one["metadata"].get("labels", {}).get(INSTANCE) in releases
    }
