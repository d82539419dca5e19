"""A run is not lost, whichever of the platform's programs is killed in the middle of it."""

import re
import secrets
import time

import pytest

from pipelines.connect import connected
from tests.cluster.sigkill import sigkill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECONDS = 300
"""For a run that takes half a minute when nothing is killed."""
KILLED = {
    "API server": ("kubeflow", "ml-pipeline"),
    "workflow controller": ("kubeflow", "workflow-controller"),
    "persistence agent": ("kubeflow", "ml-pipeline-persistenceagent"),
    "metadata store": ("kubeflow", "metadata-grpc-deployment"),
    "database": ("storage", "mariadb"),
    "object store": ("storage", "seaweedfs"),
    "online store": ("storage", "valkey"),
    "MLflow": ("mlflow", "mlflow"),
}


@pytest.fixture(scope="module")
def naps(record, tmp_path_factory):
    """Two steps that sleep and hand something on, in the image of our steps."""
    from kfp import compiler, dsl

    data = record["images"]["data"]
    image = f"{data['name']}:{data['tag']}" + (f"@{data['digest']}" if data["digest"] else "")

    @dsl.component(base_image=image, install_kfp_package=False)
    def nap(seconds: int, nonce: str) -> str:
        import time

        time.sleep(seconds)
        return nonce

    @dsl.pipeline(name="naps")
    def two_naps(nonce: str):
        first = nap(seconds=10, nonce=nonce)
        nap(seconds=10, nonce=first.output)

    file = tmp_path_factory.mktemp("naps") / "naps.yaml"
    compiler.Compiler().compile(two_naps, str(file))
    return file


@pytest.fixture
def run(platform, naps):
    """A run that is on its way: its API and its id."""
    with connected("", platform.context, "kubeflow") as found:
        api = found.api
        pipeline = api.pipeline("naps") or api.create_pipeline("naps", "for tests")
        nonce = secrets.token_hex(4)
        version = api.upload_version(pipeline["pipeline_id"], nonce, "for tests", naps)
        made = api.create_run(
            {
                "display_name": f"naps {nonce}",
                "pipeline_version_reference": {
                    "pipeline_id": pipeline["pipeline_id"],
                    "pipeline_version_id": version["pipeline_version_id"],
                },
                "runtime_config": {"parameters": {"nonce": nonce}},
            }
        )
        yield api, made["run_id"]


def pod_of(cluster, namespace, workload):
    name = re.compile(rf"{workload}-(\d+|[a-z0-9]+-[a-z0-9]{{5}})")
    found = [
        pod["metadata"]["name"]
        for pod in cluster.get("pods", namespace=namespace)
        if name.fullmatch(pod["metadata"]["name"]) and pod["status"]["phase"] == "Running"
    ]
    assert found, f"no pod of {namespace}/{workload} runs"
    return found[0]


@pytest.mark.parametrize("what", KILLED)
def test_a_run_survives_the_death_of(what, platform, run):
    api, identity = run
    until(lambda: steps_running(platform, identity), 120)
    namespace, workload = KILLED[what]
    sigkill(platform, namespace, pod_of(platform, namespace, workload))
    state = until(lambda: ended(api, identity), SECONDS)
    assert state == "SUCCEEDED"


def steps_running(cluster, identity):
    """A step's own pod is at work, not only its driver."""
    return [
        pod
        for pod in cluster.get("pods", namespace="kubeflow", selector=f"pipeline/runid={identity}")
        if pod["status"]["phase"] == "Running" and "driver" not in pod["metadata"]["name"]
    ]


def ended(api, identity):
    state = api.run(identity).get("state")
    return state if state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED") else None


def until(found, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(1)
    raise AssertionError(f"not within {seconds} s")
