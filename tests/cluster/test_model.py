"""A model on a cluster: its protocols, and no request lost whatever happens to its versions."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import boto3
import grpc
import httpx
import numpy as np
import pytest

from components.release import values as on
from components.release.deployed import DRIVER, Deployed
from components.release.lease import Lease, Taken
from components.release.rollout import Unhealthy, roll_out
from components.release.smoke import reproduce
from ops.cluster import ClusterError
from slipway.cli.models import registry_of
from slipway.files import read_json
from slipway.project import Project
from slipway.registry import CHAMPION
from tests.cluster.load import Load
from tests.cluster.sigkill import sigkill

ROOT = Path(__file__).parents[2]
NAME, NAMESPACE = "test-numbers", "models"
PREDICT = f"/v1/models/{NAME}:predict"
ROW = [1.0, 2.0, 3.0, 4.0]
BODY = {"instances": [ROW]}
ONE, TWO = "10.0", "20.0"
"""What the packages `one` and `two` predict for it."""
BUCKET = "mlflow"


@pytest.fixture(scope="module")
def image():
    """The serving runtime, as `make images` made it."""
    if given := os.environ.get("SLIPWAY_SERVE_IMAGE"):
        return given
    made = ROOT / ".slipway" / "images.json"
    if not made.exists() or "serve" not in read_json(made):
        pytest.skip("no serving image: run `make images`, or set SLIPWAY_SERVE_IMAGE")
    serve = read_json(made)["serve"]
    return f"{serve['name']}:{serve['tag']}@{serve['digest']}"


@pytest.fixture(scope="module")
def gateway(cluster):
    """Where the gateway answers from outside."""
    for kind in ("inferenceservices.serving.kserve.io", "httproutes.gateway.networking.k8s.io"):
        if not cluster.knows(kind):
            pytest.skip(f"the cluster has no {kind}: run `make deploy`")
    with cluster.forward("gateway", "traefik", 80) as address:
        yield _outside(cluster) or f"http://{address}"


def _outside(cluster):
    """The node's own port: a forwarded one ends with the pod that it leads to."""
    (service,) = cluster.get("services", "traefik", namespace="gateway")
    node = cluster.get("nodes")[0]
    for port in service["spec"]["ports"]:
        for address in node["status"]["addresses"]:
            if "nodePort" in port and address["type"] == "InternalIP":
                url = f"http://{address['address']}:{port['nodePort']}"
                try:
                    httpx.get(url, timeout=3, trust_env=False)
                except httpx.TransportError:
                    continue
                return url
    return None


@pytest.fixture(scope="module")
def packages(cluster, tmp_path_factory):
    """Two packages in the cluster's object store, whose answers differ by a factor of two."""
    sys.path.append(str(ROOT / "tests" / "local"))
    from numbers_model import write_numbers

    folder = tmp_path_factory.mktemp("packages")
    found = {}
    secret = cluster.one("secret", "s3", "storage")["data"]
    access, key = (base64.b64decode(secret[name]).decode() for name in ("accesskey", "secretkey"))
    with cluster.forward("storage", "seaweedfs", 9000) as address:
        store = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=access,
            aws_secret_access_key=key,
        )
        for name, slope in (("one", 1), ("two", 2)):
            found[name] = write_numbers(folder / name, slope)
            for file in found[name].iterdir():
                store.upload_file(str(file), BUCKET, f"test/{name}/package/{file.name}")
    return found


@pytest.fixture(scope="module")
def model(cluster, image, gateway, packages):
    """The model, without versions at first and without a trace at the end."""
    deployed = Deployed(NAME, NAMESPACE, cluster.context)

    def entry(version, package, **server):
        server = {
            "image": on.image_of(image),
            "featureStore": {"enabled": False},
            "replicas": {"min": 1, "max": 1},
            "resources": {
                "requests": {"cpu": "20m", "memory": "160Mi"},
                "limits": {"memory": "512Mi"},
            },
            **server,
        }
        return {
            "version": version,
            "storageUri": f"s3://{BUCKET}/test/{package}/package",
            "weight": 0,
            "server": server,
        }

    def release(wanted, steps=(), hold=0.0, prove=True, force=False, say=None, **values):
        said = []

        def proof():
            if prove:
                package = packages[wanted["storageUri"].split("/")[-2]]
                with cluster.forward(
                    NAMESPACE, deployed.predictor(wanted["version"]), 80
                ) as address:
                    assert reproduce(f"http://{address}", NAME, package) < 1e-5

        def tell(text):
            said.append(text)
            if say:
                say(text)

        with Lease(deployed, f"test of version {wanted['version']}", tell, force) as lease:
            base = {**on.of_cluster(NAME), **values}
            roll_out(deployed, lease, base, wanted, steps, hold, proof, tell)
        return said

    def load(**settings):
        return Load(gateway, f"{NAME}.slipway.localhost", PREDICT, BODY, **settings)

    def answered():
        """Until the gateway leads to the model."""
        deadline = time.monotonic() + 30
        while True:
            got = httpx.post(
                gateway + PREDICT,
                json=BODY,
                headers={"host": f"{NAME}.slipway.localhost"},
                trust_env=False,
            )
            if got.status_code == 200:
                return str(got.json()["predictions"][0])
            assert time.monotonic() < deadline, f"{got.status_code} {got.text}"
            time.sleep(0.5)

    def only(version, package, **server):
        """The model with this version alone."""
        wanted = entry(version, package, **server)
        release(wanted, prove=False)
        answered()
        return wanted

    _uninstall(cluster)
    yield SimpleNamespace(
        deployed=deployed, entry=entry, release=release, load=load, answered=answered, only=only
    )
    _uninstall(cluster)


def _uninstall(cluster):
    where = ["--namespace", NAMESPACE, "--kube-context", cluster.context]
    subprocess.run(
        ["helm", "uninstall", NAME, *where, "--ignore-not-found"],
        env={**os.environ, "HELM_DRIVER": DRIVER},
        check=True,
        capture_output=True,
        timeout=120,
    )
    _until(lambda: not _pods(cluster), 90)


def _pods(cluster, version=""):
    labels = f"app.kubernetes.io/instance={NAME}"
    if version:
        labels += f",app.kubernetes.io/version={version}"
    return cluster.get("pods", namespace=NAMESPACE, selector=labels)


def _until(met, seconds):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)


def test_every_protocol_through_the_gateway(model, gateway):
    model.only("1", "one")
    headers = {"host": f"{NAME}.slipway.localhost"}
    with httpx.Client(base_url=gateway, headers=headers, trust_env=False) as client:
        v1 = client.post(PREDICT, json=BODY)
        assert v1.json()["predictions"] == [10.0]
        tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
        v2 = client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]})
        assert v2.status_code == 200, v2.text
        assert v2.json()["outputs"][0]["data"] == [10.0]
        explained = client.post(f"/v1/models/{NAME}:explain", json=BODY)
        assert explained.status_code == 200, explained.text
        for path in (f"/v1/models/{NAME}", f"/v2/models/{NAME}", "/v2", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        assert client.get("/v2/health/ready").status_code == 200
    assert _ask_grpc(gateway) == 10.0


def _ask_grpc(gateway):
    from serving.rpc.protos import inference_pb2 as pb

    options = [("grpc.default_authority", f"{NAME}.slipway.localhost")]
    with grpc.insecure_channel(gateway.removeprefix("http://"), options) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="input",
            datatype="FP32",
            shape=[1, 4],
            contents=pb.InferTensorContents(fp32_contents=ROW),
        )
        answer = infer(pb.ModelInferRequest(model_name=NAME, inputs=[tensor]), timeout=10)
    output = answer.outputs[0]
    if output.contents.fp32_contents:
        return float(output.contents.fp32_contents[0])
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


def test_what_is_not_for_clients_is_not_routed(model, gateway):
    model.only("1", "one")
    headers = {"host": f"{NAME}.slipway.localhost"}
    with httpx.Client(base_url=gateway, headers=headers, trust_env=False) as client:
        for path in (
            "/metrics",
            f"/v2/models/{NAME}/../../repository/models/{NAME}/unload",
            f"/v2/models/{NAME}/..%2f..%2frepository/models/{NAME}/unload",
            f"/v2/repository/models/{NAME}/unload",
            "/v2/repository/index",
        ):
            assert client.post(path).status_code in (400, 404), path
        assert client.get("/metrics").status_code == 404
        # KServe's own host would lead to all of it.
        own = {"host": f"{NAME}-v1-{NAMESPACE}.slipway.localhost"}
        assert client.get("/v2/health/live", headers=own).status_code == 404
    options = [("grpc.default_authority", f"{NAME}.slipway.localhost")]
    with grpc.insecure_channel(gateway.removeprefix("http://"), options) as channel:
        unload = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelUnload")
        with pytest.raises(grpc.RpcError):
            unload(b"", timeout=5)
    assert model.answered() == ONE


def test_promotion_loses_no_request(model, cluster):
    model.only("1", "one")
    with model.load() as load:
        said = model.release(model.entry("2", "two"), steps=(10, 50), hold=5)
        time.sleep(3)
    print(load, *said, sep="\n")
    assert load.lost == []
    assert set(load.answers) == {ONE, TWO}
    assert "version 2 gets 10 % of the requests" in said
    assert model.deployed.values()["previous"]["version"] == "1"
    _until(lambda: not _pods(cluster, "1"), 60)


def test_rollback_loses_no_request(model, cluster):
    model.only("2", "two")
    values = model.deployed.values()
    before = model.entry("1", "one")
    with model.load() as load:
        model.release(before, prove=False, force=True)
        time.sleep(3)
    print(load)
    assert load.lost == []
    assert model.answered() == ONE
    assert model.deployed.values()["previous"] == {**values["versions"][0], "weight": 0}
    _until(lambda: not _pods(cluster, "2"), 60)


def test_releasing_what_serves_changes_nothing(model, cluster):
    wanted = model.only("1", "one")
    pods = [pod["metadata"]["name"] for pod in _pods(cluster)]
    assert model.release(wanted) == ["version 1 serves all requests already"]
    assert [pod["metadata"]["name"] for pod in _pods(cluster)] == pods


def test_a_rolling_update_loses_no_request(model, cluster):
    model.only("1", "one")
    pods = {pod["metadata"]["name"] for pod in _pods(cluster, "1")}
    with model.load() as load:
        model.release(model.entry("1", "one", env=[{"name": "CHANGED", "value": str(time.time())}]))
        time.sleep(3)
    print(load)
    assert load.lost == []
    alive = {
        pod["metadata"]["name"]
        for pod in _pods(cluster, "1")
        if "deletionTimestamp" not in pod["metadata"]
    }
    assert not alive & pods


@pytest.mark.parametrize("kill", ["deleted", "evicted", "killed"])
def test_a_pod_that_dies_beside_another_loses_no_request(model, cluster, kill):
    model.only("1", "one", replicas={"min": 2, "max": 2})
    with model.load(connections=12, pause=0.02) as load:
        for _ in range(2):
            time.sleep(3)
            victim = next(
                pod["metadata"]["name"]
                for pod in _pods(cluster, "1")
                if "deletionTimestamp" not in pod["metadata"]  # the one before may still drain
            )
            if kill == "deleted":
                now = ["--grace-period=0", "--force"]
                cluster.kubectl("delete", "pod", victim, "--namespace", NAMESPACE, *now)
            elif kill == "evicted":
                _evict(cluster, victim)
            else:
                sigkill(cluster, NAMESPACE, victim)
            time.sleep(3)
            _until(lambda: model.deployed.health("1").ready, 90)
    print(load)
    assert load.lost == []


def _evict(cluster, pod):
    """What `kubectl drain` asks for; the disruption budget lets one go at a time."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))


def test_two_pods_are_not_evicted_at_once(model, cluster):
    model.only("1", "one", replicas={"min": 2, "max": 2})
    first, second = (pod["metadata"]["name"] for pod in _pods(cluster, "1")[:2])
    _evict(cluster, first)
    with pytest.raises(ClusterError, match="disruption budget"):
        _evict(cluster, second)
    _until(lambda: model.deployed.health("1").ready, 90)


def test_a_wrong_image_is_one_sentence_and_takes_nothing_away(model, cluster):
    model.only("1", "one")
    broken = model.entry(
        "2", "two", image={"repository": "ghcr.io/slipway/serve", "tag": "no-such-build"}
    )
    before = model.deployed.values()
    with model.load() as load, pytest.raises(Unhealthy) as told:
        model.release(broken, steps=(10,), hold=1)
    assert load.lost == []
    assert set(load.answers) == {ONE}
    assert "Version 2 of test-numbers is stuck" in str(told.value)
    assert "serve:no-such-build" in str(told.value)
    assert model.deployed.values() == before
    _until(lambda: not _pods(cluster, "2"), 60)


def test_a_package_that_is_not_there_is_said_so(model, cluster):
    model.only("1", "one")
    with pytest.raises(Unhealthy) as told:
        model.release(model.entry("2", "nowhere"))
    assert "storage-initializer" in str(told.value)
    assert model.answered() == ONE


SCRIPT = """
import json, sys
from components.release import values as on
from components.release.deployed import Deployed
from components.release.lease import Lease
from components.release.rollout import roll_out
from components.release.step import _interrupt
import signal

signal.signal(signal.SIGTERM, _interrupt)
name, namespace, context, entry = sys.argv[1:]
model = Deployed(name, namespace, context)


def say(text):
    print(text, flush=True)


with Lease(model, "test in another process", say) as lease:
    roll_out(
        model, lease, on.of_cluster(name), json.loads(entry), (10, 50), 30, lambda: None, say
    )
"""


def _releasing(cluster, wanted, until):
    """A release in a process of its own, up to the moment when it says `until`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, NAME, NAMESPACE, cluster.context, json.dumps(wanted)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    for line in process.stdout:
        if until in line:
            return process
    raise AssertionError(f"it never said '{until}'")


def test_a_release_that_is_killed_goes_on_from_there(model, cluster):
    model.only("1", "one")
    wanted = model.entry("2", "two")
    with model.load() as load:
        process = _releasing(cluster, wanted, "gets 10 %")
        process.kill()
        process.communicate()
        time.sleep(2)
        assert on.weight(model.deployed.values(), "2") == 10
        said = model.release(wanted, steps=(10, 50), hold=2)
    assert load.lost == []
    assert "version 2 gets 10 % of the requests" not in said
    assert "version 2 gets 50 % of the requests" in said
    assert model.answered() == TWO


def test_a_release_that_is_stopped_gives_the_requests_back(model, cluster):
    model.only("1", "one")
    before = model.deployed.values()
    with model.load() as load:
        process = _releasing(cluster, model.entry("2", "two"), "gets 10 %")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode != 0
    assert load.lost == []
    assert model.deployed.values() == before


def test_what_a_killed_helm_left_does_not_hold_up_the_next(model, cluster, tmp_path):
    wanted = model.only("1", "one")
    values = tmp_path / "values.json"
    for attempt in range(10):
        changed = {**wanted, "server": {**wanted["server"], "startupSeconds": 200 + attempt}}
        values.write_text(json.dumps(on.put(model.deployed.values(), changed)))
        if _kill_helm_halfway(model.deployed, values):
            break
    else:
        pytest.fail("Helm was faster, ten times")
    model.release(wanted)
    assert model.answered() == ONE


def _kill_helm_halfway(deployed, values):
    """Whether Helm was killed with its release locked."""

    def locked():
        mine = f"owner=helm,name={NAME},status=pending-upgrade"
        return deployed.ask("GET", deployed.core("configmaps"), labelSelector=mine)["items"]

    helm = subprocess.Popen(
        ["helm", "upgrade", NAME, ROOT / "charts" / "model", "--values", values,
         "--namespace", NAMESPACE, "--kube-context", deployed.context],
        env={**os.environ, "HELM_DRIVER": DRIVER},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while helm.poll() is None:
        if locked():
            helm.kill()
    helm.wait()
    return bool(locked())


def test_a_rollback_stops_the_release_that_is_under_way(model, cluster):
    old = model.only("1", "one")
    outcome = []
    halfway = threading.Event()

    def releasing():
        def say(text):
            if "gets 10 %" in text:
                halfway.set()

        try:
            model.release(model.entry("2", "two"), steps=(10,), hold=60, prove=False, say=say)
        except Taken as taken:
            outcome.append(str(taken))

    with model.load() as load:
        thread = threading.Thread(target=releasing)
        thread.start()
        assert halfway.wait(120)
        model.release(old, prove=False, force=True)
        thread.join(60)
    assert load.lost == []
    assert "has taken over" in outcome[0]
    assert model.answered() == ONE
    assert not [item for item in model.deployed.values()["versions"] if item["version"] == "2"]


def test_a_shadow_sees_the_requests_and_answers_none(model, cluster):
    model.only("1", "one")
    shadow = model.entry("9", "two")
    values = on.put(model.deployed.values(), shadow)
    model.deployed.apply(values)
    _until(lambda: model.deployed.health("9").ready, 120)
    model.deployed.apply({**values, "shadow": {"version": "9", "percent": 100}})
    time.sleep(2)
    with model.load(connections=2) as load:
        time.sleep(5)
    assert load.lost == []
    assert set(load.answers) == {ONE}
    with cluster.forward(NAMESPACE, model.deployed.predictor("9"), 80) as address:
        metrics = httpx.get(f"http://{address}/metrics", trust_env=False).text
    seen = sum(
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("slipway_requests_total{") and 'code="200"' in line
    )
    assert seen >= 0.9 * load.sent
    model.deployed.apply({**on.only(values, "1"), "shadow": {"version": "", "percent": 100}})


@pytest.fixture(scope="module")
def registered(cluster, packages, tmp_path_factory):
    """A project whose versions 1 and 2 are in the cluster's registry; 2 is champion."""
    if not cluster.one("service", "mlflow", "mlflow"):
        pytest.skip("the cluster has no MLflow: run `make deploy`")
    folder = packages["one"].parent
    text = (folder / "project.yaml").read_text().replace("name: numbers", f"name: {NAME}")
    home = tmp_path_factory.mktemp("project")
    (home / "project.yaml").write_text(text)
    (home / "any.sql").write_text("select 1")
    project = Project.load(home / "project.yaml")
    with registry_of(project, cluster.context) as registry:
        registry.client.delete_registered_model(NAME)
    with registry_of(project, cluster.context) as registry:
        for package in ("one", "two"):
            source = f"s3://{BUCKET}/test/{package}/package"
            made = registry.client.create_model_version(NAME, source)
            registry.tag(made.version, "gates", "passed")
            registry.set_alias(CHAMPION, str(made.version))
    yield project
    with registry_of(project, cluster.context) as registry:
        registry.client.delete_registered_model(NAME)


def _slipway(cluster, project, *args):
    command = [sys.executable, "-c", "from slipway.cli import main; main()", *args]
    done = subprocess.run(
        [*command, "--project", project.path, "--context", cluster.context],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    print(done.stdout, done.stderr)
    return done


def test_rollback_by_command(model, cluster, registered):
    model.only("1", "one")
    model.release(model.entry("2", "two"))
    with model.load() as load:
        done = _slipway(cluster, registered, "rollback", "--reason", "wrong answers")
        assert done.returncode == 0, done.stderr
        time.sleep(2)
    assert load.lost == []
    assert model.answered() == ONE
    listed = json.loads(_slipway(cluster, registered, "models", "--json").stdout)["versions"]
    two, one = listed
    assert (one["aliases"], one["weight"], one["state"]) == (["champion"], 100, "ready")
    assert (two["aliases"], two["weight"]) == ([], None)
    assert two["rolled_back"].endswith("to version 1: wrong answers")
    # A version that nobody remembers comes from the registry.
    again = _slipway(cluster, registered, "rollback", "--to", "2")
    assert again.returncode == 0, again.stderr
    assert model.answered() == TWO


def test_a_rollback_to_nowhere_is_one_sentence(model, cluster, registered):
    model.only("1", "one")
    done = _slipway(cluster, registered, "rollback", "--to", "77")
    assert done.returncode == 2
    assert done.stderr.strip() == f"{NAME} has no version 77. `slipway models` lists them."
    assert model.answered() == ONE


def test_features_and_model_in_pods_of_their_own(model, cluster):
    """`split`: the transformer asks the predictor, and a promotion to it loses nothing either."""
    model.only("1", "one")
    wanted = model.entry("2", "two", mode="split")
    # The numbers have no features to look up; its configuration is not read.
    wanted["server"]["featureStore"] = {"enabled": True}
    with model.load() as load:
        model.release(wanted, steps=(50,), hold=3)
        time.sleep(2)
    assert load.lost == []
    assert model.answered() == TWO
    services = {item["metadata"]["name"] for item in cluster.get("services", namespace=NAMESPACE)}
    assert {f"{NAME}-v2-transformer", f"{NAME}-v2-predictor"} <= services


def test_more_load_brings_more_pods(model, cluster):
    model.only("1", "one", replicas={"min": 1, "max": 2, "metric": "cpu", "target": 50})
    with model.load(connections=24, pause=0) as load:
        _until(lambda: len(_pods(cluster, "1")) == 2, 120)
        _until(lambda: model.deployed.health("1").ready, 60)
    assert load.lost == []
