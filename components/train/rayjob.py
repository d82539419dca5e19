"""The `RayJob` of a training run: from the contract and a profile to what KubeRay gets. Pure."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from components.train.ray_runs import ENVIRONMENT
from slipway.contract.model import Positive, Section, Training
from slipway.errors import UserError

PROFILES = Path(__file__).with_name("ray_profiles.yaml")
USER = 65532
RAY_VERSION = "2.60.0"  # tests hold it against requirements/base.in
JOB = "slipway/train"
"""Label of the job and of all its pods."""
SECRET = "slipway-steps"  # noqa: S105 (its name)
SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSED_ON = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_MAX_ATTEMPTS",
    "STORAGE_EMULATOR_HOST",
)
"""What of the step's environment is told to Ray: how to reach the store, and nothing else."""


class Pod(Section):
    """Head or worker, as `ray_profiles.yaml` explains."""

    requests: dict[str, str]
    limits: dict[str, str]
    shared_memory: str
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    service_account: str | None = None

    @property
    def has_gpu(self) -> bool:
        """By KubeRay's own rule for what Ray counts as a GPU."""
        return any(key.endswith("gpu") for key in self.limits)


class Profile(Section):
    head: Pod
    worker: Pod | None = None
    queue: str | None = None
    start_seconds: Positive
    run_seconds: Positive
    retries: int
    keep_seconds: Positive


@dataclass(frozen=True)
class Launch:
    """One training run: everything that its RayJob hangs on."""

    name: str
    namespace: str
    image: str
    profile_name: str
    profile: Profile
    training: Training
    entrypoint: list[str]
    code: str
    """Folder of the code in the image."""
    owner: dict[str, Any] | None
    """What takes the job along when it is deleted: the workflow that the step belongs to."""
    environment: Mapping[str, str]
    image_pull_secrets: list[str]


def job_name(project: str, *versions: str) -> str:
    """The same for the same training, so that a step's second attempt finds the first one's job.

    KubeRay allows 47 characters.
    """
    digest = hashlib.sha256("\0".join([project, *versions]).encode()).hexdigest()[:10]
    return f"train-{project[:28].rstrip('-')}-{digest}"


def load_profile(name: str, training: Training, path: Path = PROFILES) -> tuple[str, Profile]:
    """The profile `name`, or the one that the contract calls for where `name` is empty."""
    profiles = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = name or ("gpu" if training.use_gpu else "cpu")
    if name not in profiles:
        raise UserError(
            f"SLIPWAY_RAY_PROFILE: {path.name} has no profile '{name}'.",
            f"It has {', '.join(profiles)}.",
        )
    try:
        # From JSON's view, in which a list is a tuple.
        profile = Profile.model_validate(profiles[name], strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (name, *first["loc"])))
        raise UserError(f"{path.name}: {where}: {first['msg']}.", "Correct the profile.") from None
    trains = profile.worker or profile.head
    if training.use_gpu and not trains.has_gpu:
        raise UserError(
            f"training.use_gpu: the Ray profile '{name}' has no GPU.",
            "Set use_gpu to false, or SLIPWAY_RAY_PROFILE to a profile with one.",
        )
    return name, profile


def rayjob(launch: Launch) -> dict[str, Any]:
    """The manifest. No pod of it may call the Kubernetes API."""
    profile, training = launch.profile, launch.training
    labels = {JOB: launch.name}
    if profile.queue:
        labels["kueue.x-k8s.io/queue-name"] = profile.queue
    metadata: dict[str, Any] = {"name": launch.name, "namespace": launch.namespace}
    metadata["labels"] = labels
    if launch.owner:
        metadata["ownerReferences"] = [launch.owner]
    threads = training.workers * training.cpus_per_worker
    cluster: dict[str, Any] = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {
                "dashboard-host": "0.0.0.0",  # noqa: S104 (KubeRay calls it from another pod)
                # Ray counts what it is told, and its own controllers count too.
                "num-cpus": "0" if profile.worker else str(threads + 1),
                "object-store-memory": str(_bytes(profile.head.shared_memory) * 3 // 4),
            },
            "template": _template(launch, profile.head, "ray-head"),
        },
    }
    if profile.worker:
        cpu = {"cpu": str(training.cpus_per_worker)}
        worker = profile.worker.model_copy(update={"requests": cpu | profile.worker.requests})
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": training.workers,
                "minReplicas": training.workers,
                "maxReplicas": training.workers,
                "rayStartParams": {
                    "num-cpus": str(training.cpus_per_worker),
                    "object-store-memory": str(_bytes(worker.shared_memory) * 3 // 4),
                },
                "template": _template(launch, worker, "ray-worker"),
            }
        ]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            # The operator submits. A submitter beside the head cannot be given a security context,
            # asks for half a CPU, and a head that died would not be started again.
            "submissionMode": "HTTPMode",
            # Its output is the log of the head's container, where kubectl and the step look.
            "entrypoint": f"{shlex.join(launch.entrypoint)} > /proc/1/fd/1 2>&1",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": profile.keep_seconds,
            "activeDeadlineSeconds": profile.start_seconds + profile.run_seconds,
            "backoffLimit": profile.retries,
            "suspend": profile.queue is not None,
            "rayClusterSpec": cluster,
        },
    }


def _template(launch: Launch, pod: Pod, name: str) -> dict[str, Any]:
    environment = [
        *({"name": key, "value": value} for key, value in _environment(launch).items()),
        *(
            {
                "name": key,
                # A cloud's own identities need none.
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key, "optional": True}},
            }
            for key in SECRET_KEYS
        ),
    ]
    mounts = {"tmp": "/tmp", "shm": "/dev/shm"}  # noqa: S108
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": name,
                "image": launch.image,
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": pod.requests | _gpus(pod), "limits": pod.limits},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "env": environment,
                "volumeMounts": [
                    {"name": volume, "mountPath": path} for volume, path in mounts.items()
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pod.shared_memory}},
        ],
    }
    if pod.service_account:
        spec["serviceAccountName"] = pod.service_account
    if pod.node_selector:
        spec["nodeSelector"] = pod.node_selector
    if pod.tolerations:
        spec["tolerations"] = list(pod.tolerations)
    if launch.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in launch.image_pull_secrets]
    return {"metadata": {"labels": {JOB: launch.name}}, "spec": spec}


def _environment(launch: Launch) -> dict[str, str]:
    given = {key: launch.environment[key] for key in PASSED_ON if key in launch.environment}
    return {
        **ENVIRONMENT,
        **given,
        "HOME": "/tmp",  # noqa: S108
        "SLIPWAY_HOME": "/tmp/slipway",  # noqa: S108
        "SLIPWAY_RAY_PROFILE": launch.profile_name,
        # Ray's workers start elsewhere than in the folder of the code.
        "PYTHONPATH": launch.code,
        "PYTHONUNBUFFERED": "1",
    }


def _gpus(pod: Pod) -> dict[str, str]:
    return {key: value for key, value in pod.limits.items() if key.endswith("gpu")}


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    if not found:
        raise UserError(
            f"ray_profiles.yaml: shared_memory '{quantity}' is no size.", "Write it in Mi or Gi."
        )
    return int(found[1]) * 2 ** {"Mi": 20, "Gi": 30}[found[2]]
