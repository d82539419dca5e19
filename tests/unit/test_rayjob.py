"""The RayJob of a training run, and what a step makes of the state of its pods."""

import re
from pathlib import Path

import pytest
import yaml

from components.train import rayjob
from components.train.rayjob import PROFILES, Launch, job_name, load_profile
from slipway.contract.model import Training
from slipway.errors import UserError
from slipway.pods import end_of, killed_for_memory, why_waiting

ROOT = Path(__file__).parents[2]
GPU = "nvidia.com/gpu"
OWNER = {
    "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "1-2",
}  # fmt: skip


def manifest(profile: str = "", queue: str | None = None, **training):
    wanted = Training(**training)
    name, found = load_profile(profile, wanted)
    return rayjob.rayjob(
        Launch(
            name=job_name("flight-delay", "v1"),
            namespace="kubeflow",
            image="ghcr.io/slipway/train@sha256:1",
            profile_name=name,
            profile=found.model_copy(update={"queue": queue}),
            training=wanted,
            entrypoint=["python", "-m", "components.train.remote", "s3://slipway/ray/a b"],
            code="/app",
            owner=OWNER,
            environment={
                "AWS_ENDPOINT_URL": "http://s3", "AWS_SECRET_ACCESS_KEY": "hidden",
                "SLIPWAY_FEAST_REGISTRY": "mysql://hidden", "SLIPWAY_RAY": "kuberay",
            },
            image_pull_secrets=["registry"],
        )
    )  # fmt: skip


def pods_of(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    return [group["template"]["spec"] for group in groups]


def test_the_ray_of_the_pods_is_the_ray_of_the_images():
    pinned = re.search(r"ray\[.*\]==([\d.]+)", (ROOT / "requirements" / "base.in").read_text())
    assert pinned[1] == rayjob.RAY_VERSION


def test_the_same_training_has_the_same_name_and_any_other_another():
    assert job_name("a", "v1", "f1") == job_name("a", "v1", "f1")
    assert (
        len({job_name("a", "v1", "f1"), job_name("a", "v1", "f2"), job_name("b", "v1", "f1")}) == 3
    )
    assert job_name("a", "v1", "2") != job_name("a", "v12")


@pytest.mark.parametrize("project", ["a", "x" * 40, "a-project-whose-name-is-cut-a-t-hyphen"])
def test_every_project_gets_a_name_that_kuberay_takes(project):
    name = job_name(project, "v1")
    assert len(name) <= 47
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])", name)
    assert "--" not in name


@pytest.mark.parametrize("name", yaml.safe_load(PROFILES.read_text()))
def test_every_profile_is_valid_and_its_pods_are_hardened(name):
    job = manifest(name, use_gpu=name == "gpu", workers=2)
    for pod in pods_of(job):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        assert volumes[mounted["/tmp"]] == {}
        assert volumes[mounted["/dev/shm"]]["medium"] == "Memory"
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
    spec = job["spec"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"]
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0


def test_pods_get_the_store_and_its_keys_but_no_other_secret():
    for pod in pods_of(manifest("cpu")):
        environment = {item["name"]: item for item in pod["containers"][0]["env"]}
        assert environment["AWS_ENDPOINT_URL"]["value"] == "http://s3"
        key = environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
        assert key == {"name": "slipway-steps", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
        assert not any("hidden" in str(item) for item in environment.values())
        # Either would end in a job that makes a job, or in a Ray that knows no token.
        assert not {"SLIPWAY_RAY", "RAY_AUTH_MODE"} & set(environment)


def test_on_a_laptop_the_head_trains_alone_with_a_cpu_to_spare_for_rays_controllers():
    cluster = manifest("cpu-laptop", workers=1, cpus_per_worker=2)["spec"]["rayClusterSpec"]
    assert "workerGroupSpecs" not in cluster
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "3"


def test_the_contract_says_how_many_workers_with_how_many_cpus():
    cluster = manifest("cpu", workers=3, cpus_per_worker=4)["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 3
    assert group["rayStartParams"]["num-cpus"] == "4"
    assert group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "4"


def test_a_contract_with_a_gpu_gets_pods_that_ask_for_one_and_tolerate_its_nodes():
    cluster = manifest(use_gpu=True, workers=2)["spec"]["rayClusterSpec"]
    worker = cluster["workerGroupSpecs"][0]["template"]["spec"]
    resources = worker["containers"][0]["resources"]
    assert resources["requests"][GPU] == resources["limits"][GPU] == "1"
    assert worker["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert GPU not in head["containers"][0]["resources"]["limits"]


def test_a_profile_without_gpu_is_refused_for_a_contract_that_wants_one():
    with pytest.raises(UserError, match="the Ray profile 'cpu' has no GPU"):
        manifest("cpu", use_gpu=True)


def test_an_unknown_profile_is_told_with_those_there_are():
    with pytest.raises(UserError, match=r"no profile .tpu.\. It has cpu-laptop, cpu, gpu"):
        manifest("tpu")


def test_a_misspelt_profile_names_the_field(tmp_path):
    file = tmp_path / "ray_profiles.yaml"
    file.write_text(PROFILES.read_text().replace("  start_seconds", "  start_secs", 1))
    with pytest.raises(UserError, match=r"ray_profiles.yaml: cpu-laptop.start_se"):
        load_profile("cpu-laptop", Training(), file)


def test_in_a_queue_the_job_waits_suspended_until_kueue_admits_all_of_it():
    job = manifest("gpu", queue="team-a", use_gpu=True)
    assert job["spec"]["suspend"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert not manifest("gpu", use_gpu=True)["spec"]["suspend"]


def test_the_job_goes_when_its_workflow_goes():
    assert manifest()["metadata"]["ownerReferences"] == [OWNER]


def test_the_entrypoint_is_quoted_and_speaks_where_kubectl_logs_listens():
    entrypoint = manifest()["spec"]["entrypoint"]
    assert entrypoint.endswith("'s3://slipway/ray/a b' > /proc/1/fd/1 2>&1")


def pod(**status):
    return {"metadata": {"name": "p"}, "status": {"phase": "Pending", **status}}


def waiting(reason, message="", **more):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "main", "image": "registry/x:1", "state": state, **more}


def test_a_pod_without_room_says_what_is_missing_and_may_still_start():
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    scheduled = {"type": "PodScheduled", "status": "False", "message": message}
    found = why_waiting(pod(conditions=[scheduled]))
    assert str(found) == f"pod p: {message}"
    assert not found.hopeless


@pytest.mark.parametrize("where", ["initContainerStatuses", "containerStatuses"])
def test_an_image_that_cannot_be_pulled_is_named_and_hopeless(where):
    found = why_waiting(pod(**{where: [waiting("ImagePullBackOff", "not found")]}))
    assert found.why == "ImagePullBackOff registry/x:1: not found"
    assert found.hopeless


def test_a_container_that_ends_again_and_again_says_how():
    ended = {"terminated": {"reason": "Error", "exitCode": 1, "message": "no\nbucket"}}
    state = waiting("CrashLoopBackOff", lastState=ended)
    assert why_waiting(pod(containerStatuses=[state])).why == (
        "main ends again and again (Error, code 1: no bucket)"
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_waits_for_nothing(phase):
    assert why_waiting(pod(phase=phase, containerStatuses=[waiting("ErrImagePull")])) is None


def test_a_pod_that_is_being_made_waits_for_nothing_worth_telling():
    assert why_waiting(pod(containerStatuses=[waiting("ContainerCreating")])) is None


def test_kills_for_memory_are_counted_over_restarts():
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    status = {"name": "ray-head", "restartCount": 3, "state": {"running": {}}, "lastState": ended}
    assert killed_for_memory(pod(phase="Running", containerStatuses=[status])) == 3
    assert killed_for_memory(pod(phase="Running")) == 0


def test_the_reason_of_an_end_is_the_containers_own():
    ended = {"terminated": {"exitCode": 1, "message": "slipway-error: {}"}}
    statuses = [{"name": "wait", "state": {}}, {"name": "main", "state": ended}]
    assert end_of(pod(phase="Failed", containerStatuses=statuses)) == "slipway-error: {}"
    assert end_of(pod(phase="Running")) == ""
