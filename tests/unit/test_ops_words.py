"""What Helm, Kubernetes and archives say, read and written in our words."""

import json
import tarfile

import pytest

from ops import bundle, render
from ops.deploy import _spent, state_folder
from ops.fit import Room, amount, of_pod, requested
from ops.status import failed_runs, missing
from slipway.errors import UserError

SCHEMA = """Error: values don't meet the specifications of the schema(s) in the following chart(s):
mlflow:
- at '/resources/requests': additional properties 'cpus' not allowed
- (root): Additional property replcas is not allowed
"""
FAIL = (
    "Error: execution error at (monitoring/templates/grafana/route.yaml:4:4): grafana.route: there "
    "is no\n Grafana behind it; set grafana.enabled\n\nUse --debug flag to render out invalid YAML"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            SCHEMA,
            "resources.requests: additional properties 'cpus' not allowed; "
            "Additional property replcas is not allowed",
        ),
        (FAIL, "grafana.route: there is no Grafana behind it; set grafana.enabled"),
        ("Error: chart not found\n", "chart not found"),
        ("WARNING: old\nError: a: b", "a: b"),
    ],
)
def test_helms_error_is_one_sentence(text, said):
    assert render.reason(text) == said


def test_seconds_of_releases_are_read_from_helmfiles_table():
    table = """
====================================== Updated Releases ======================================
NAME      NAMESPACE   CHART          VERSION   DURATION
kuberay   kuberay     kuberay.tgz    1.6.1          27s
storage   storage     ./storage      0.1.0         1m3s

"""
    assert _spent(table) == [("kuberay", "27s"), ("storage", "1m3s")]


@pytest.mark.parametrize(
    ("text", "value"), [("250m", 0.25), ("1.5", 1.5), ("64Mi", 64 * 2**20), ("2G", 2e9), (3, 3)]
)
def test_quantities_are_numbers(text, value):
    assert amount(text) == value


def test_what_a_workload_requests_is_what_the_scheduler_counts():
    def container(cpu, memory):
        return {"resources": {"requests": {"cpu": cpu, "memory": memory}}}

    spec = {
        "containers": [container("10m", "32Mi"), container("5m", "16Mi")],
        "initContainers": [container("100m", "8Mi")],
    }
    assert of_pod(spec) == Room(0.1, 48 * 2**20)
    workload = {"kind": "Deployment", "spec": {"replicas": 2, "template": {"spec": spec}}}
    job = {"kind": "Job", "spec": {"template": {"spec": spec}}}
    assert requested([workload, job]) == Room(0.2, 96 * 2**20)
    assert requested([workload | {"spec": workload["spec"] | {"replicas": 0}}]) == Room()


def test_images_are_found_wherever_containers_stand():
    deep = {"kind": "Thing", "spec": {"a": [{"containers": [{"image": "x:1"}]}]}}
    crd = {"kind": "CustomResourceDefinition", "spec": {"containers": [{"image": "not:this"}]}}
    assert render.images_of([deep, crd]) == {"x:1"}


def test_a_state_folder_has_a_name_that_every_file_system_takes():
    name = state_folder("arn:aws:eks:eu-west-1:1/cluster").name
    assert name == "arn-aws-eks-eu-west-1-1-cluster"


def test_a_release_that_is_not_whole_is_a_problem():
    platform = {"releases": [{"name": n, "namespace": n} for n in ("kfp", "mlflow", "storage")]}
    installed = [
        {"name": "kfp", "namespace": "kfp", "status": "deployed"},
        {"name": "mlflow", "namespace": "mlflow", "status": "failed"},
    ]
    assert [str(one).split(":")[0] for one in missing(platform, installed)] == [
        "release mlflow/mlflow",
        "release storage/storage",
    ]


def test_a_failed_run_names_its_first_failed_step_and_old_ones_are_history():
    from datetime import UTC, datetime

    def workflow(name, ended):
        node = {
            "type": "Pod", "phase": "Failed", "displayName": "train", "message": "main: Error",
            "finishedAt": ended,
        }  # fmt: skip
        return {
            "metadata": {"name": name, "namespace": "kubeflow", "labels": {"pipeline/runid": "1"}},
            "status": {"phase": "Failed", "finishedAt": ended, "nodes": {"a": node}},
        }

    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    found = list(
        failed_runs(
            [workflow("new", "2026-11-21T11:00:00Z"), workflow("old", "2026-11-01T11:00:00Z")], now
        )
    )
    assert [one.name for one in found] == ["new"]
    assert found[0].warning
    assert "failed: main: Error" in str(found[0])


def test_a_mistake_that_a_step_told_is_told_again_without_its_wrapping():
    from datetime import UTC, datetime

    told = 'main: Error: slipway-error: {"step": "ingest", "message": "no \\"x\\".\\nAdd"}'
    node = {"type": "Pod", "phase": "Failed", "displayName": "executor(0)", "message": told}
    ended = "2026-11-21T11:00:00Z"
    workflow = {
        "metadata": {"name": "w", "namespace": "kubeflow"},
        "status": {"phase": "Failed", "finishedAt": ended, "nodes": {"a": node}},
    }
    [found] = failed_runs([workflow], datetime(2026, 11, 21, 12, tzinfo=UTC))
    assert found.why == 'failed: ingest: no "x". Add'


@pytest.fixture
def layout(tmp_path):
    """An OCI layout of one image, as crane writes it."""
    folder = tmp_path / "layout"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "blobs" / "sha256" / "abc").write_text("{}")
    image = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2}
    image["digest"] = "sha256:abc"
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [image]}))
    return folder


def test_an_archive_names_its_image_by_tag_and_by_digest(layout, tmp_path):
    file = bundle.archive(layout, "valkey/valkey:8.1@sha256:abc", tmp_path / "image.tar")
    with tarfile.open(file) as tar:
        index = json.load(tar.extractfile("index.json"))
        assert "blobs/sha256/abc" in tar.getnames()
    names = [one["annotations"][bundle.CONTAINERD_NAME] for one in index["manifests"]]
    assert names == ["docker.io/valkey/valkey@sha256:abc", "docker.io/valkey/valkey:8.1"]


def test_a_bundle_that_is_unfinished_or_damaged_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no bundle: it has no manifest\.json"):
        bundle.check(tmp_path, "laptop")
    (tmp_path / "a").write_text("1")
    manifest = {"profile": "laptop", "sha256": {"a": "0" * 64}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is missing or damaged"):
        bundle.check(tmp_path, "laptop")


def test_a_bundle_of_another_profile_is_refused_for_it_lacks_images(tmp_path):
    manifest = {"profile": "laptop", "sha256": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    bundle.check(tmp_path, "laptop")
    with pytest.raises(UserError, match=r"for the profile laptop, and this is team\..*PROFILE=lap"):
        bundle.check(tmp_path, "team")


def test_a_bundle_has_the_images_that_your_values_name_beside_those_of_the_lock(monkeypatch):
    monkeypatch.setattr(bundle, "locked", lambda profile: ["docker.io/library/mariadb:10@sha256:1"])
    ours = {"data": {"name": "ghcr.io/x/data", "tag": "1", "digest": "sha256:2"}}

    def pod(*images):
        return {"kind": "Pod", "spec": {"containers": [{"image": image} for image in images]}}

    objects = {"storage": [pod("mariadb:10", "ghcr.io/x/data:1@sha256:2")], "kfp": [pod("mine:3")]}
    assert bundle.image_names("laptop", ours, objects) == [
        "docker.io/library/mariadb:10@sha256:1",
        "ghcr.io/x/data:1@sha256:2",
        "mine:3",
    ]
