"""Train on a Ray cluster that KubeRay makes for this run and removes after it.

The step only watches: it hands the training set over, creates the `RayJob`, shows its log, and
fetches the candidate. All of it may be done again at any moment: a second attempt of the step finds
the job of the first by its name and goes on watching it, and a training that ended is not repeated.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from components.train.exchange import fetch, publish, remove
from components.train.rayjob import Launch, Profile, job_name, load_profile, rayjob
from slipway import pods
from slipway.code import ROOT, code_version
from slipway.errors import UserError
from slipway.files import new_folder, read_json
from slipway.kube import Kube
from slipway.step import Step
from slipway.storage import Location, locate

CANDIDATE, TRAINING_SET, RESULT, FAILURE, PULSE = (
    "candidate",
    "training_set",
    "training.json",
    "error.json",
    "pulse",
)
"""What lies in the place where step and Ray meet."""
JOBS = "/apis/ray.io/v1/namespaces/{}/rayjobs"
PAUSE = 2.0
PULSE_SECONDS = 20.0
GRACE = 90.0
"""Seconds that a hopeless state may last: a registry or a secret may come a little later."""
MEMORY_KILLS = 3
ENDED = ("Complete", "Failed", "ValidationFailed")


def train(step: Step, versions: str, training_set: Path, candidate: Path) -> None:
    """Like `step.train_with_ray`, on a cluster of its own."""
    project, image = step.project, _setting("SLIPWAY_TRAIN_IMAGE")
    name = job_name(project.contract.name, project.version, versions, image)
    place = locate(_setting("SLIPWAY_RAY_STORAGE")) / name
    done = place / CANDIDATE / RESULT
    kube, jobs = Kube(), JOBS.format(_setting("SLIPWAY_NAMESPACE"))
    if not done.exists():
        publish(training_set, place / TRAINING_SET)
        with _job(step, kube, name, image, place) as (path, profile):
            _watch(step, kube, path, place, profile.start_seconds)
        if not done.exists():
            raise RuntimeError(
                f"the Ray job {name} ended well, but left no candidate in {place.uri}"
            )
    else:
        step.say("this training is done already; taking its candidate")
        _remove(kube, f"{jobs}/{name}")  # of an attempt that was killed before it could
    with new_folder(candidate) as folder:
        fetch(place / CANDIDATE, folder)
        step.facts.update(read_json(folder / RESULT))


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise UserError(
            f"SLIPWAY_RAY=kuberay needs {name}, which is not set.",
            "The chart kfp sets it for all steps (values `steps`).",
        )
    return value


@contextmanager
def _job(
    step: Step, kube: Kube, name: str, image: str, place: Location
) -> Iterator[tuple[str, Profile]]:
    """The path of the job in the API, and its profile; the job is removed at the end."""
    contract = step.project.contract
    namespace = _setting("SLIPWAY_NAMESPACE")
    profile_name, profile = load_profile(
        os.environ.get("SLIPWAY_RAY_PROFILE", ""), contract.training
    )
    pod = kube.patiently(lambda: _own_pod(kube, namespace))
    launch = Launch(
        name=name,
        namespace=namespace,
        image=image,
        profile_name=profile_name,
        profile=profile,
        training=contract.training,
        entrypoint=[
            *("python", "-m", "components.train.remote", place.uri, str(step.project.path)),
            *(step.project.version, code_version()),
        ],
        code=str(ROOT),
        owner=_owner(pod),
        environment=os.environ,
        image_pull_secrets=[
            secret["name"] for secret in (pod or {}).get("spec", {}).get("imagePullSecrets", [])
        ],
    )
    jobs = JOBS.format(namespace)
    path = f"{jobs}/{name}"

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        """An aborted run. Should this come too late, the missing pulse ends the job."""
        _remove(kube, path)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        job = rayjob(launch)
        kube.patiently(lambda: _create_or_adopt(step, kube, jobs, job, place))
        yield path, profile
    finally:
        signal.signal(signal.SIGTERM, before)
        _remove(kube, path)


def _own_pod(kube: Kube, namespace: str) -> dict[str, Any] | None:
    """None where this process runs in no pod of KFP's."""
    name = os.environ.get("KFP_POD_NAME")
    return kube.find(f"/api/v1/namespaces/{namespace}/pods/{name}") if name else None


def _owner(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    """The workflow, which outlives a pod: another attempt of the step goes on with the same job."""
    for owner in (pod or {}).get("metadata", {}).get("ownerReferences", []):
        if owner["kind"] == "Workflow":
            return {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
    return None


def _create_or_adopt(
    step: Step, kube: Kube, jobs: str, manifest: dict[str, Any], place: Location
) -> None:
    from kubernetes.client import ApiException

    name = manifest["metadata"]["name"]
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = kube.find(f"{jobs}/{name}")
        if found is None:
            remove(place / FAILURE)
            try:
                kube.call("POST", jobs, manifest)
            except ApiException as error:
                if error.status != 409:
                    raise
                continue
            step.say(f"Ray job {name} is created; waiting for its pods")
            return
        leaving = found["metadata"].get("deletionTimestamp")
        ended = found.get("status", {}).get("jobDeploymentStatus", "") in ENDED
        if not leaving and not ended:
            step.say(f"Ray job {name} is there already; going on with it")
            owners = manifest["metadata"].get("ownerReferences", [])
            kube.call("PATCH", f"{jobs}/{name}", {"metadata": {"ownerReferences": owners}})
            return
        if not leaving:
            step.say(f"Ray job {name} ended without a candidate; again")
            _remove(kube, f"{jobs}/{name}")
        time.sleep(PAUSE)
    raise RuntimeError(
        f"the Ray job {name} of an earlier run is not gone after 5 minutes: is the KubeRay "
        "operator up? It must let go of the job's finalizer."
    )


def _remove(kube: Kube, path: str) -> None:
    """A job that stays because the API is away ends by itself: without a pulse, or by its age."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    with suppress(ApiException, HTTPError):
        kube.call("DELETE", path, propagationPolicy="Background")


def _watch(step: Step, kube: Kube, path: str, place: Location, start_seconds: float) -> None:
    """Show what the job says until it ends; raises with the reason where it does not end well."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    idle_since = time.monotonic()
    watch = _Watch(step, kube, path, place)
    while True:
        try:
            ended = watch.look()
        except (ApiException, HTTPError) as error:
            if not kube.passing(error):
                raise
            ended = False
        if ended:
            return
        if watch.running:  # after a head that was lost, its successor has all this time again
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > start_seconds:
            raise UserError(
                f"the Ray cluster was not there after {start_seconds:.0f} s "
                f"({watch.reason or 'nothing said why'}).",
                "Make room for it, or change the profile in components/train/ray_profiles.yaml.",
            )
        time.sleep(PAUSE)


class _Watch:
    """One look after another at the job, its pods and its log."""

    def __init__(self, step: Step, kube: Kube, path: str, place: Location) -> None:
        self._step, self._kube, self._path, self._place = step, kube, path, place
        self._namespace = path.split("/namespaces/")[1].split("/")[0]
        self._pulse = 0.0
        self._hopeless_since: float | None = None
        self._logged: dict[str, str] = {}
        self.running = False
        self.reason = ""

    def look(self) -> bool:
        """Whether the job has ended well."""
        self._beat()
        job = self._kube.find(self._path)
        if job is None:
            if (self._place / CANDIDATE / RESULT).exists():  # an equal run was faster to remove it
                return True
            raise RuntimeError(f"the Ray job was deleted while it ran: {self._path}")
        status = job.get("status", {})
        state = status.get("jobDeploymentStatus", "")
        cluster = status.get("rayClusterName", "")
        pods = self._pods(cluster) if cluster else []
        self._show_logs(pods)
        if state in ENDED:
            self._judge(status)
            return True
        self.running = state == "Running"
        self._explain(state, pods)
        return False

    def _beat(self) -> None:
        """Tell the job that someone still wants it."""
        now = time.monotonic()
        if now - self._pulse >= PULSE_SECONDS:
            self._pulse = now
            with suppress(UserError):  # a store that is away for a moment
                (self._place / PULSE).write_text(str(time.time()))

    def _pods(self, cluster: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        found: list[dict[str, Any]] = self._kube.call(
            "GET", path, labelSelector=f"ray.io/cluster={cluster}"
        )["items"]
        return found

    def _show_logs(self, found: list[dict[str, Any]]) -> None:
        from kubernetes.client import ApiException

        for pod in found:
            name = pod["metadata"]["name"]
            head = pod["metadata"]["labels"].get("ray.io/node-type") == "head"
            if head and pod["status"].get("phase") not in (None, "Pending"):
                path = f"/api/v1/namespaces/{self._namespace}/pods/{name}/log"
                since = {"sinceTime": self._logged[name]} if name in self._logged else {}
                try:
                    text = self._kube.text(path, container="ray-head", timestamps="true", **since)
                except ApiException as error:
                    if error.status not in (400, 404):  # it restarts, or has gone meanwhile
                        raise
                    continue
                self._show(name, text)

    def _show(self, pod: str, text: str) -> None:
        """Lines after the last one shown; `sinceTime` counts in whole seconds."""
        last = self._logged.get(pod, "")
        for line in text.splitlines():
            moment, _, said = line.partition(" ")
            if moment > last:
                last = moment
                print(said, flush=True)
        if last:
            self._logged[pod] = last

    def _explain(self, state: str, found: list[dict[str, Any]]) -> None:
        waits = [wait for pod in found if (wait := pods.why_waiting(pod))]
        reason = "; ".join(map(str, waits))
        if state == "Suspended":
            reason = "suspended: it waits for its turn in the queue"
        if reason and reason != self.reason:
            self._step.say(f"waiting: {reason}")
        self.reason = reason
        killed = next((pod for pod in found if pods.killed_for_memory(pod) >= MEMORY_KILLS), None)
        if killed:
            raise UserError(
                f"{killed['metadata']['name']} was killed again and again because it used more "
                "memory than its limit.",
                "Raise the limit in components/train/ray_profiles.yaml.",
            )
        now = time.monotonic()
        hopeless = [wait for wait in waits if wait.hopeless]
        self._hopeless_since = (self._hopeless_since or now) if hopeless else None
        if self._hopeless_since and now - self._hopeless_since > GRACE:
            raise UserError(
                f"the Ray cluster cannot start: {hopeless[0]}.",
                "Correct the image, the secret or the profile that it names.",
            )

    def _judge(self, status: dict[str, Any]) -> None:
        failure = self._place / FAILURE
        if failure.exists():
            raise UserError(json.loads(failure.read_bytes())["message"])
        if status.get("jobStatus") == "SUCCEEDED":
            return
        told = " ".join(status.get("message", "").split())[-500:]
        raise RuntimeError(
            f"the Ray job failed ({status.get('reason', 'no reason given')}): {told}"
        )
