"""The release step without a cluster: what Helm is told, from the first version to a rollback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.release import values as on
from components.release.deployed import Deployed
from slipway.contract import parse_contract
from slipway.errors import UserError
from slipway.package import make_signature
from slipway.pods import restarts, why_waiting
from slipway.project import Project

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "tests" / "contract" / "minimal.yaml").read_text()
IMAGE = "ghcr.io/slipway/serve:abc"


def entry(version, image=IMAGE, serving="", contract=MINIMAL):
    parsed = parse_contract(f"{contract}\nserving: {{{serving}}}")
    return on.entry_of(parsed, version, f"s3://mlflow/{version}/package", image)


def weights(values):
    return {item["version"]: item["weight"] for item in values["versions"]}


@pytest.fixture
def serving_one():
    return on.shift(on.put(on.of_cluster("minimal"), entry("1")), "1", on.ALL)


def test_the_first_version_waits_without_requests_and_then_gets_all():
    fresh = on.put(on.of_cluster("minimal"), entry("1"))
    assert weights(fresh) == {"1": 0}
    # There is nobody to share with.
    assert weights(on.shift(fresh, "1", 10)) == {"1": 100}
    assert on.shift(fresh, "1", on.ALL)["previous"] == {}


def test_a_canary_shares_with_the_one_before(serving_one):
    both = on.put(serving_one, entry("2"))
    assert weights(both) == {"1": 100, "2": 0}
    assert weights(on.shift(both, "2", 10)) == {"1": 90, "2": 10}
    done = on.shift(on.shift(both, "2", 10), "2", on.ALL)
    assert weights(done) == {"1": 0, "2": 100}
    assert done["previous"] == entry("1")
    assert weights(on.only(done, "2")) == {"2": 100}


def test_nothing_is_changed_in_place(serving_one):
    before = json.dumps(serving_one)
    on.only(on.back(on.shift(on.put(serving_one, entry("2")), "2", 50), "2"), "2")
    assert json.dumps(serving_one) == before


@pytest.mark.parametrize("percent", [0, 10, 50])
def test_a_version_that_fails_goes_and_the_one_before_has_all(serving_one, percent):
    canary = on.put(serving_one, entry("2"))
    if percent:
        canary = on.shift(canary, "2", percent)
    assert on.back(canary, "2") == serving_one


def test_a_version_that_fails_after_its_promotion_goes_as_well(serving_one):
    done = on.shift(on.put(serving_one, entry("2")), "2", on.ALL)
    assert weights(on.back(done, "2")) == {"1": 100}


def test_a_first_version_that_fails_leaves_nothing():
    assert on.back(on.put(on.of_cluster("minimal"), entry("1")), "1")["versions"] == []


def test_a_version_that_alone_answers_is_never_taken_away(serving_one):
    assert on.back(serving_one, "1") == serving_one
    later = on.only(on.shift(on.put(serving_one, entry("2")), "2", on.ALL), "2")
    assert on.back(later, "2") == later


def test_the_same_version_with_another_image_is_replaced_in_place(serving_one):
    new = entry("1", "ghcr.io/slipway/serve:def")
    changed = on.put(serving_one, new)
    assert changed["versions"] == [new | {"weight": 100}]
    assert changed["previous"] == entry("1")
    # If its pods do not come up, the settings of before come back.
    assert on.back(changed, "1") == serving_one


def test_putting_what_is_there_changes_nothing(serving_one):
    assert on.put(serving_one, entry("1")) == serving_one
    assert on.same(serving_one["versions"][0], entry("1"))
    assert not on.same(serving_one["versions"][0], entry("1", "other:1"))
    assert not on.same(None, entry("1"))


def test_a_rollback_is_a_release_of_the_previous_entry(serving_one):
    two = on.only(on.shift(on.put(serving_one, entry("2")), "2", on.ALL), "2")
    again = on.shift(on.put(two, two["previous"]), "1", on.ALL)
    assert weights(again) == {"2": 0, "1": 100}
    assert again["previous"] == entry("2")


def test_a_shadow_outlives_a_promotion(serving_one):
    values = on.put(on.put(serving_one, entry("2")), entry("3")) | {"shadow": {"version": "3"}}
    assert weights(on.only(on.shift(values, "2", on.ALL), "2")) == {"2": 100, "3": 0}


def test_pods_are_as_the_contract_says():
    made = entry(
        "1",
        serving="mode: split, replicas: {min: 2, max: 5, metric: memory, target: 70}, "
        "resources: {cpu: 0.5, cpu_limit: 2, memory: 1Gi, memory_limit: 2Gi}, "
        "transformer: {replicas: {min: 3}}",
    )["server"]
    assert made["mode"] == "split"
    assert made["replicas"] == {"min": 2, "max": 5, "metric": "memory", "target": 70}
    assert made["resources"] == {
        "requests": {"cpu": "0.5", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }
    assert made["transformer"]["replicas"]["min"] == 3
    assert made["transformer"]["replicas"]["max"] == 3


def test_defaults_are_small_and_without_an_autoscaler():
    made = entry("1")["server"]
    assert made["replicas"]["min"] == made["replicas"]["max"] == 1
    assert made["resources"]["requests"] == {"cpu": "50m", "memory": "300Mi"}
    assert "transformer" not in made


def test_old_data_is_served_on_its_own_clock():
    assert entry("1")["server"]["featureStore"] == {"enabled": True, "clock": "wall"}
    old = entry("1", contract=f"as_of: 2014-01-01\n{MINIMAL}")
    assert old["server"]["featureStore"]["clock"] == "store"
    start, end = MINIMAL.index("views:"), MINIMAL.index("request:")
    without = entry("1", contract=MINIMAL[:start] + "views: {}\n" + MINIMAL[end:])
    assert without["server"]["featureStore"]["enabled"] is False


def test_pods_are_no_part_of_the_model():
    """The same model in more pods is the same package, and the same version."""
    small = parse_contract(MINIMAL)
    large = parse_contract(f"{MINIMAL}\nserving: {{replicas: {{min: 3}}, canary: {{steps: []}}}}")
    assert make_signature(small) == make_signature(large)
    assert make_signature(small)["serving"] == {"on_store_failure": "refuse", "payload_sample": 1.0}


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("ghcr.io/slipway/serve:abc", ("ghcr.io/slipway/serve", "abc", "")),
        ("localhost:5000/serve:abc", ("localhost:5000/serve", "abc", "")),
        (
            f"a.io/serve:abc@sha256:{'0' * 64}",
            ("a.io/serve", "abc", f"sha256:{'0' * 64}"),
        ),
        (f"a.io:5000/serve@sha256:{'0' * 64}", ("a.io:5000/serve", "", f"sha256:{'0' * 64}")),
    ],
)
def test_an_image_in_parts(reference, parts):
    assert tuple(on.image_of(reference).values()) == parts


@pytest.mark.parametrize("reference", ["", "ghcr.io/slipway/serve", "localhost:5000/serve"])
def test_an_image_that_names_no_build_is_a_users_mistake(reference):
    with pytest.raises(UserError, match="which names no build of the serving runtime"):
        on.image_of(reference)


def test_a_cluster_gives_every_model_its_values(monkeypatch):
    monkeypatch.setenv("SLIPWAY_MODEL_VALUES", '{"route": {"domain": "ml.example.com"}}')
    assert on.of_cluster("m")["route"] == {"domain": "ml.example.com"}
    monkeypatch.setenv("SLIPWAY_MODEL_VALUES", "[]")
    with pytest.raises(UserError, match="SLIPWAY_MODEL_VALUES is no JSON object"):
        on.of_cluster("m")
    monkeypatch.setenv("SLIPWAY_MODEL_VALUES", "{route")
    with pytest.raises(UserError, match="SLIPWAY_MODEL_VALUES is not JSON"):
        on.of_cluster("m")


def test_warnings_are_those_of_the_version_and_not_of_one_that_begins_like_it(monkeypatch):
    def event(name, message):
        return {"involvedObject": {"kind": "Pod", "name": name}, "reason": "R", "message": message}

    found = [
        event("m-v1", "isvc"),
        event("m-v1-predictor-x", "pod"),
        event("m-v10-predictor", "no"),
    ]
    monkeypatch.setattr(Deployed, "ask", lambda *_, **__: {"items": found})
    assert Deployed("m", "models").events("1") == [
        "Pod m-v1-predictor-x: R: pod",
        "Pod m-v1: R: isvc",
    ]


def test_without_a_cluster_the_step_says_who_serves(tmp_path, monkeypatch):
    monkeypatch.delenv("SLIPWAY_MODELS_NAMESPACE", raising=False)
    code = (
        "import sys; from slipway.step import running; from slipway.code import code_version\n"
        "from components.release.step import release\n"
        "with running('release', sys.argv[1], sys.argv[2], code_version(), sys.argv[3]) as step:\n"
        "    print(release(step, '4'))\n"
        "print('mlflow' in sys.modules or 'kubernetes' in sys.modules)"
    )
    project = Project.load(ROOT / "project.yaml")
    facts = tmp_path / "facts.json"
    done = subprocess.run(
        [sys.executable, "-c", code, project.path, project.version, facts],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-3:-1] == ["4", "False"]
    told = json.loads(facts.read_text())["facts"]
    assert told == {
        "model": "flight-delay",
        "registered": "4",
        "released": False,
        "served_by": "slipway serve",
    }


def pod(*containers):
    return {
        "metadata": {"name": "m-1"},
        "status": {"phase": "Pending", "containerStatuses": list(containers)},
    }


def test_a_pod_that_cannot_start_says_why():
    pulling = {
        "name": "kserve-container",
        "image": "ghcr.io/slipway/serve:typo",
        "restartCount": 2,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not\n found"}},
    }
    wait = why_waiting(pod(pulling))
    assert wait is not None
    assert wait.hopeless
    assert str(wait) == "pod m-1: ImagePullBackOff ghcr.io/slipway/serve:typo: not found"
    assert restarts(pod(pulling, {"name": "other", "restartCount": 1})) == 3
