"""Traffic from one version to the next, against a model that lives in this process.

Kubernetes' part is played as it plays it: a lease is written only over the version that was read.
What a real one does with all of it is in tests/cluster/test_model.py.
"""

import itertools
import json
import signal
import threading
import time
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kubernetes.client import ApiException

from components.release import lease as leases
from components.release import rollout, smoke, step
from components.release import values as on
from components.release.deployed import Health
from components.release.lease import Lease, Taken
from components.release.rollout import Unhealthy, roll_out
from slipway.errors import UserError
from slipway.project import Project
from slipway.step import Step

ROOT = Path(__file__).parents[2]
READY = Health(True)
BASE = on.of_cluster("numbers")


def entry(version, image="abc"):
    return {
        "version": version,
        "storageUri": f"s3://mlflow/{version}/package",
        "weight": 0,
        "server": {"image": {"tag": image}},
    }


class Model:
    """What `Deployed` is for a rollout: Helm's values, the health of pods, and the API's leases."""

    def __init__(self, name="numbers", namespace="models"):
        self.name, self.namespace = name, namespace
        self.stored = None
        self.applied = []
        """The weights after each `apply`."""
        self.healthy = lambda version: READY
        self.lease = None
        self.versions = itertools.count(1)

    def values(self):
        return deepcopy(self.stored)

    def apply(self, values):
        self.stored = deepcopy(dict(values))
        self.applied.append({one["version"]: one["weight"] for one in values["versions"]})

    def health(self, version):
        return self.healthy(version)

    def events(self, version):
        return [f"Pod numbers-v{version}: BackOff"]

    def of_group(self, group, kind, name=""):
        return f"{kind}/{name}" if name else kind

    def find(self, path):
        return deepcopy(self.lease)

    def ask(self, method, path, body=None):
        if method == "DELETE":
            self.lease = None
            return
        if method == "POST" and self.lease:
            raise ApiException(status=409)
        read = body["metadata"].get("resourceVersion")
        if self.lease and read not in (None, self.lease["metadata"]["resourceVersion"]):
            raise ApiException(status=409)
        metadata = {**body["metadata"], "resourceVersion": str(next(self.versions))}
        self.lease = deepcopy({**body, "metadata": metadata})

    def taken_by(self, holder, seconds_ago=0):
        renewed = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        self.lease = {
            "metadata": {"name": "numbers-traffic", "resourceVersion": str(next(self.versions))},
            "spec": {"holderIdentity": holder, "renewTime": renewed.isoformat()},
        }


@pytest.fixture
def clock(monkeypatch):
    """Seconds pass when the rollout sleeps, and only then."""
    passed = SimpleNamespace(seconds=0.0)

    def sleep(seconds):
        passed.seconds += seconds
        assert passed.seconds < 3600, "it waits without end"

    monkeypatch.setattr(
        rollout, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: passed.seconds)
    )
    return passed


@pytest.fixture
def model(clock):
    """Version 1 answers all requests."""
    made = Model()
    made.stored = on.shift(on.put(BASE, entry("1")), "1", on.ALL)
    return made


def release(
    model, steps=(10, 50), hold=5.0, prove=lambda: None, wanted=None, say=lambda text: None
):
    wanted = wanted or entry("2")
    with Lease(model, "a test", say) as lease:
        return roll_out(model, lease, BASE, wanted, steps, hold, prove, say)


def test_a_release_goes_step_by_step_and_is_proven_at_each(model, clock):
    proofs = []
    assert release(model, prove=lambda: proofs.append(model.applied[-1]["2"]))
    assert model.applied == [
        {"1": 100, "2": 0},
        {"1": 90, "2": 10},
        {"1": 50, "2": 50},
        {"1": 0, "2": 100},
        {"2": 100},
    ]
    assert proofs == [0, 10, 50]
    assert model.stored["previous"] == entry("1")
    assert model.lease is None, "the lease is given back"


def test_pods_of_the_version_before_outlive_its_last_request(model, clock):
    ends = {}

    def apply(values):
        Model.apply(model, values)
        ends[json.dumps(model.applied[-1])] = clock.seconds

    model.apply = apply
    release(model, steps=(), hold=0)
    assert ends['{"2": 100}'] - ends['{"1": 0, "2": 100}'] >= rollout.GRACE_SECONDS


def test_what_serves_already_is_left_alone(model):
    assert not release(model, wanted=entry("1"))
    assert model.applied == []


@pytest.mark.parametrize(
    "failure", [UserError("other answers"), SystemExit(143), KeyboardInterrupt()]
)
def test_whatever_ends_a_release_the_version_before_has_all_requests_again(model, failure):
    """Also a SIGTERM, which the step makes a `SystemExit` of."""
    before = model.values()

    def prove():
        if model.applied[-1]["2"] == 10:
            raise failure

    with pytest.raises(type(failure)):
        release(model, prove=prove)
    assert model.applied[-1] == {"1": 100}
    assert model.stored == before
    assert model.lease is None


def test_who_lost_the_lease_changes_nothing_more(model):
    """Neither the next step nor the way back: somebody else moves the traffic now."""

    def prove():
        if model.applied[-1]["2"] == 10:
            model.taken_by("a rollback")

    with pytest.raises(Taken, match="a rollback has taken over"):
        release(model, prove=prove)
    assert model.applied[-1] == {"1": 90, "2": 10}
    assert model.lease["spec"]["holderIdentity"] == "a rollback", "its lease is not ours to delete"


def test_a_restart_under_the_first_requests_ends_it(model):
    restarted = itertools.count()
    model.healthy = lambda version: Health(
        True, restarts=next(restarted) if model.applied[-1][version] == 10 else 0
    )
    with pytest.raises(Unhealthy, match="faltered under its first requests"):
        release(model)
    assert model.applied[-1] == {"1": 100}


@pytest.mark.parametrize(
    ("health", "seconds", "said"),
    [
        (Health(False, stuck=["no such image"]), rollout.STUCK_SECONDS, "is stuck for 60 s"),
        (Health(False, stuck=["it ends"], restarts=rollout.CRASHES), 0, "ended 3 times"),
        (Health(False, waits=["0 of 1 pods"]), rollout.READY_SECONDS, "is not ready after 420 s"),
    ],
)
def test_a_version_that_does_not_come_up_is_given_up_in_time(model, clock, health, seconds, said):
    model.healthy = lambda version: health
    with pytest.raises(Unhealthy, match=said) as told:
        release(model)
    assert str(told.value).splitlines()[1].strip() == (health.stuck or health.waits)[0]
    assert "Pod numbers-v2: BackOff" in str(told.value)
    assert seconds <= clock.seconds <= seconds + 2 * rollout.LOOK_SECONDS
    assert model.applied == [{"1": 100, "2": 0}, {"1": 100}]


def test_what_was_stuck_for_a_while_and_came_out_of_it_may_go_on(model, clock):
    def healthy(version):
        if clock.seconds > 200:
            return READY
        # Stuck, for half of what is allowed, again and again.
        stuck = clock.seconds % rollout.STUCK_SECONDS < rollout.STUCK_SECONDS / 2
        return Health(False, stuck=["the registry is away"] if stuck else [], waits=["pulling"])

    model.healthy = healthy
    assert release(model)


@pytest.fixture
def waits(monkeypatch):
    """Ends a wait for the lease, with what was said."""

    class Waits(Exception):
        pass

    def sleep(seconds):
        raise Waits

    monkeypatch.setattr(leases, "time", SimpleNamespace(sleep=sleep))
    return Waits


def test_another_holder_is_waited_for_by_name(model, waits):
    model.taken_by("another release")
    said = []
    with pytest.raises(waits):
        release(model, say=said.append)
    assert said == ["waits for another release"]
    assert model.applied == []


def test_a_holder_that_died_is_waited_for_no_longer(model, waits):
    model.taken_by("a dead one", seconds_ago=leases.SECONDS + 1)
    assert release(model)


def test_force_takes_the_lease_from_one_that_lives(model, waits):
    model.taken_by("another release")
    with Lease(model, "rollback", print, force=True) as mine:
        mine.check()
        assert "rollback" in model.lease["spec"]["holderIdentity"]


def test_of_two_who_find_a_dead_holder_one_gets_the_lease(model, waits):
    model.taken_by("a dead one", seconds_ago=leases.SECONDS + 1)
    find = model.find

    def found_by_both(path):
        seen = find(path)
        model.find = find
        model.taken_by("the faster one")
        return seen

    model.find = found_by_both
    with pytest.raises(waits), Lease(model, "the slower one", lambda text: None):
        pass
    assert model.lease["spec"]["holderIdentity"] == "the faster one"


def test_a_lease_is_renewed_while_it_is_held(model, monkeypatch):
    monkeypatch.setattr(leases, "SECONDS", 0.2)
    with Lease(model, "a long one", print):
        first = model.lease["spec"]["renewTime"]
        end = time.monotonic() + 10
        while model.lease["spec"]["renewTime"] == first:
            assert time.monotonic() < end, "nobody renews it"
            time.sleep(0.05)


REFERENCE = {"rows": {"x": [1.0, 2.0], "y": ["a", None]}, "predictions": [10.0, 0.001]}


@contextmanager
def server(*answers):
    """A server that gives these answers one after the other; the requests that it got."""
    left, got = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(
                (self.path, json.loads(self.rfile.read(int(self.headers["content-length"]))))
            )
            status, body = left.pop(0)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", got
        finally:
            serving.shutdown()
            thread.join()


@pytest.fixture
def package(tmp_path):
    (tmp_path / "reference.json").write_text(json.dumps(REFERENCE))
    return tmp_path


def test_a_version_is_asked_for_its_reference_rows_also_when_its_service_is_late(package):
    answers = (503, {}), (200, {"predictions": [10.000001, 0.001]})
    with server(*answers) as (url, got):
        assert smoke.reproduce(url, "numbers", package) == pytest.approx(1e-6)
    rows = {"instances": [{"x": 1.0, "y": "a"}, {"x": 2.0, "y": None}]}
    assert got == [("/v1/models/numbers:predict", rows)] * 2


@pytest.mark.parametrize("predictions", [[10.0001, 0.001], [10.0, 0.00101], [10.0], [10.0, np.nan]])
def test_other_answers_than_at_registration_are_refused(package, predictions):
    with (
        server((200, {"predictions": predictions})) as (url, _),
        pytest.raises(UserError, match="does not reproduce"),
    ):
        smoke.reproduce(url, "numbers", package)


def test_a_server_that_refuses_its_own_rows_is_quoted(package):
    with (
        server((400, {"error": "no column y"})) as (url, _),
        pytest.raises(UserError, match=r"400 .*no column y"),
    ):
        smoke.reproduce(url, "numbers", package)


class Champions:
    """A registry whose champion is version 3, or nobody."""

    champion = "3"

    def __init__(self, project):
        pass

    def version_of(self, alias):
        assert alias == "champion"
        return self.champion

    def package(self, version):
        return f"package of {version}"

    def source(self, version):
        return f"s3://mlflow/{version}/package"


@pytest.fixture
def rolled_out(monkeypatch):
    """What the step asks for, when the run has registered version 4."""
    asked = []
    monkeypatch.setenv("SLIPWAY_MODELS_NAMESPACE", "models")
    monkeypatch.setenv("SLIPWAY_SERVE_IMAGE", "ghcr.io/slipway/serve:abc")
    monkeypatch.setattr("slipway.registry.Registry", Champions)
    monkeypatch.setattr("components.release.deployed.Deployed", Model)
    monkeypatch.setattr(rollout, "roll_out", lambda *args: asked.append(args) or True)
    monkeypatch.setattr(step.signal, "signal", lambda *args: asked.append(args))
    return asked


def test_the_step_releases_the_champion_and_not_what_the_run_registered(rolled_out):
    running = Step("release", Project.load(ROOT / "project.yaml"))
    assert step.release(running, "4") == "3"
    _, (model, _, _, wanted, *_) = rolled_out
    assert model.name == running.project.contract.name
    assert (wanted["version"], wanted["storageUri"]) == ("3", "s3://mlflow/3/package")
    assert running.facts["released"] is True
    assert (running.facts["version"], running.facts["registered"]) == ("3", "4")


def test_a_sigterm_ends_the_step_like_an_exception_so_that_it_is_undone(rolled_out):
    step.release(Step("release", Project.load(ROOT / "project.yaml")), "4")
    number, handler = rolled_out[0]
    assert number == signal.SIGTERM
    with pytest.raises(SystemExit, match="143"):
        handler(number, None)


def test_without_a_champion_nothing_is_released(rolled_out, monkeypatch):
    monkeypatch.setattr(Champions, "champion", None)
    with pytest.raises(UserError, match="version 4 did not pass its gates"):
        step.release(Step("release", Project.load(ROOT / "project.yaml")), "4")
    assert len(rolled_out) == 1, "only the signal's handler"


def test_a_champion_that_changed_while_a_release_waited_its_turn_is_the_one_released(
    rolled_out, monkeypatch
):
    """Of two runs that register at the same time, the later champion answers in the end."""
    model = Model()
    model.taken_by("another release")

    def sleep(seconds):
        model.lease = None
        monkeypatch.setattr(Champions, "champion", "5")

    monkeypatch.setattr(leases, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("components.release.deployed.Deployed", lambda *_: model)
    assert step.release(Step("release", Project.load(ROOT / "project.yaml")), "3") == "5"
