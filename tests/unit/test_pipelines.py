"""The pipeline as a file, and what KFP says of its runs."""

import json
from pathlib import Path

import pytest
import yaml
from urllib3.exceptions import MaxRetryError

from components.release.rollout import READY_SECONDS
from pipelines import runs
from pipelines.api import Api, ApiError
from pipelines.compile import built_images, compile_training, path_in_image
from pipelines.connect import Cluster
from pipelines.schedules import load
from pipelines.submit import mistake, upload
from slipway.contract.checks import LONGEST_CANARY
from slipway.errors import UserError
from slipway.project import Project
from slipway.step import FAILURE

ROOT = Path(__file__).parents[2]
BUILT = {role: f"registry/{role}:1@sha256:{role}" for role in ("data", "train", "serve", "tools")}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    project = Project.load(ROOT / "project.yaml")
    compile_training(project, path_in_image(project), file, BUILT)
    return file


def executors(file):
    spec, platform = yaml.safe_load_all(file.read_text())
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec["deploymentSpec"]["executors"], settings


def test_every_step_runs_in_a_built_image_and_hands_on_those_of_its_commit(compiled):
    containers = {name: one["container"] for name, one in executors(compiled)[0].items()}
    assert set(containers) == {f"exec-{name}" for name in runs.ON_CLUSTER}
    roles = {name: container["image"] for name, container in containers.items()}
    assert roles.pop("exec-release") == BUILT["tools"]
    assert set(roles.values()) == {BUILT["data"]}
    for name, variable, role in (
        ("exec-train", "SLIPWAY_TRAIN_IMAGE", "train"),
        ("exec-release", "SLIPWAY_SERVE_IMAGE", "serve"),
    ):
        assert containers[name]["env"] == [{"name": variable, "value": BUILT[role]}]


def test_every_step_says_what_it_needs_and_when_it_must_have_ended(compiled):
    steps, settings = executors(compiled)
    for name, one in steps.items():
        resources = one["container"]["resources"]
        assert {"resourceCpuRequest", "resourceMemoryRequest"} <= set(resources), name
        assert int(settings[name]["activeDeadlineSeconds"]) > 0, name


def test_a_release_outlives_the_longest_canary_that_a_contract_may_ask_for(compiled):
    deadline = int(executors(compiled)[1]["exec-release"]["activeDeadlineSeconds"])
    assert deadline >= LONGEST_CANARY.total_seconds() + READY_SECONDS


def test_parameters_are_described_for_who_starts_a_run_in_the_ui(compiled):
    spec = next(yaml.safe_load_all(compiled.read_text()))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"project", "project_version", "code_version", "as_of"}
    for name, one in parameters.items():
        assert len(one["description"]) > 20, name
        assert "defaultValue" in one, f"{name} has no default: who starts a run would need it"


def test_the_same_code_and_images_compile_to_the_same_file(compiled, tmp_path):
    project = Project.load(ROOT / "project.yaml")
    again = compile_training(project, path_in_image(project), tmp_path / "again.yaml", BUILT)
    assert again.read_bytes() == compiled.read_bytes()


def test_a_project_that_no_image_holds_is_refused(tmp_path):
    (tmp_path / "feature_repo").symlink_to(ROOT / "feature_repo")
    (tmp_path / "project.yaml").write_text((ROOT / "project.yaml").read_text())
    with pytest.raises(UserError, match="no image would hold it"):
        path_in_image(Project.load(tmp_path / "project.yaml"))


def test_pushed_images_are_named_by_digest_and_loaded_ones_by_tag(tmp_path):
    note = tmp_path / "images.json"
    image = {"name": "registry/x", "tag": "1", "digest": "sha256:2"}
    noted = dict.fromkeys(("data", "train", "serve"), image)
    note.write_text(json.dumps({**noted, "tools": {**image, "digest": ""}}))
    found = built_images(note)
    assert found["data"] == "registry/x:1@sha256:2"
    assert found["tools"] == "registry/x:1"


def test_images_that_were_not_built_are_named(tmp_path):
    with pytest.raises(UserError, match="make images"):
        built_images(tmp_path / "images.json")
    (tmp_path / "images.json").write_text('{"data": {}, "serve": {}}')
    with pytest.raises(UserError, match="no image for tools, train"):
        built_images(tmp_path / "images.json")


def run_of(*nodes, state="RUNNING"):
    """As KFP 2.17 lists Argo's nodes: name, state, seconds of start and end."""
    details = [
        {
            "display_name": name,
            "state": phase,
            "start_time": f"2026-11-21T11:20:{start:02}Z",
            "end_time": f"2026-11-21T11:20:{end:02}Z" if end else "1970-01-01T00:00:00Z",
        }
        for name, phase, start, end in nodes
    ]
    return {"state": state, "run_details": {"task_details": details}}


def states(run):
    return {step.name: step.state for step in runs.steps(run)}


STEP = (
    ("ingest-driver", "SUCCEEDED", 5, 10),
    ("ingest-driver(0)", "SUCCEEDED", 5, 9),
    ("ingest", "SUCCEEDED", 10, 20),
    ("ingest(0)", "SUCCEEDED", 10, 20),
    ("executor", "SUCCEEDED", 10, 19),
    ("executor(0)", "SUCCEEDED", 10, 18),
)


def test_a_step_runs_from_the_start_of_its_driver_to_the_end_of_its_group():
    found = runs.steps(run_of(*STEP, ("validate-driver", "RUNNING", 21, 0)))
    assert (found[0].state, found[0].seconds) == ("done", 15)
    assert [step.state for step in found[1:]] == ["running", *["waiting"] * 5]


def test_a_step_from_the_cache_is_told_from_one_that_ran():
    run = run_of(
        *STEP,
        ("validate-driver", "SUCCEEDED", 21, 25),
        ("validate", "SUCCEEDED", 26, 26),
        ("executor", "SKIPPED", 26, 26),
    )
    assert states(run)["ingest"] == "done"
    assert states(run)["validate"] == "reused"


def test_a_step_that_needed_a_second_attempt_is_done():
    run = run_of(
        *STEP[:4],
        ("executor", "SUCCEEDED", 10, 19),
        ("executor(0)", "FAILED", 10, 14),
        ("executor(1)", "SUCCEEDED", 15, 19),
    )
    assert states(run)["ingest"] == "done"


def test_steps_after_a_failed_one_have_not_failed():
    run = run_of(
        ("ingest-driver", "SUCCEEDED", 5, 10),
        ("ingest", "FAILED", 10, 20),
        ("validate-driver", None, 21, 21),
        ("validate", None, 21, 21),
        state="FAILED",
    )
    assert list(states(run).values()) == ["failed", *["waiting"] * 6]


def test_a_driver_that_fails_is_its_steps_failure():
    assert states(run_of(("train-driver", "FAILED", 5, 10)))["train"] == "failed"


@pytest.mark.parametrize(
    ("node", "step"),
    [
        ("driver-age-training-x7k2p(0).root(0).train(0).executor(1)", "train"),
        ("driver-age-training-x7k2p(0).root(0).train-driver(0)", ""),
        ("driver-age-training-x7k2p(0).root-driver(0)", ""),
    ],
)
def test_a_steps_pod_is_told_from_its_drivers_whatever_the_model_is_called(node, step):
    pod = {"metadata": {"name": "p", "annotations": {runs.NODE: node}}}
    assert runs.step_of(pod) == step
    assert runs.step_of({"metadata": {"name": "p"}}) == ""


def test_a_run_is_followed_on_while_kubernetes_is_away_for_a_moment():
    class Away:
        def find(self, path):
            raise MaxRetryError(None, path)

        def text(self, path, **_):
            raise MaxRetryError(None, path)

    cluster = Cluster(Api("http://kfp"), Away(), "kubeflow")
    assert cluster.log("pod") == ""
    assert cluster.page("run") == ""


class Versions:
    """KFP's versions of one pipeline, where another upload may be faster than ours."""

    def __init__(self, faster):
        self.there, self.faster = [], faster

    def pipeline(self, name):
        return {"pipeline_id": "p"}

    def versions(self, pipeline):
        return list(self.there)

    def upload_version(self, pipeline, name, description, file):
        if self.faster:
            self.there.append({"display_name": name, "pipeline_version_id": "v"})
        raise ApiError(500, "Failed to create a pipeline version")


def test_a_version_that_another_upload_brought_first_is_taken():
    project = Project.load(ROOT / "project.yaml")
    found = upload(Versions(faster=True), project, BUILT)
    assert (found.pipeline, found.identity, found.new) == ("p", "v", False)
    with pytest.raises(ApiError, match="Failed to create"):
        upload(Versions(faster=False), project, BUILT)


def test_the_sentence_of_a_mistake_is_found_in_what_a_step_left():
    told = json.dumps({"step": "ingest", "message": "flights.csv: no such file. Correct the path."})
    assert mistake(f"{FAILURE}{told}") == "flights.csv: no such file. Correct the path."
    assert mistake(f"{FAILURE}{told[:40]}") == told[:40], "Kubernetes keeps 4096 bytes"


def test_the_schedules_of_this_repository_are_valid_and_name_contracts_that_exist():
    for schedule in load(ROOT / "pipelines" / "schedules.yaml").schedules:
        assert Project.load(ROOT / schedule.project)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schedules: [{name: a, cron: '0 2 * * *'}]", r"schedules\.0\.cron"),
        ("schedules: [{name: A, cron: '0 0 2 * * *'}]", r"schedules\.0\.name"),
        ("schedules: [{name: a, cron: '0 0 2 * * *', enable: true}]", r"schedules\.0\.enable"),
        (
            "schedules: [{name: a, cron: '0 0 2 * * *'}, {name: a, cron: '0 0 3 * * *'}]",
            "a is there twice",
        ),
        ("schedule: []", "schedules: Field required"),
        ("[]", "no list `schedules`"),
        ("schedules: [", "is no YAML"),
        ("owner: My team\nschedules: []", "owner"),
    ],
)
def test_a_wrong_schedule_names_its_place(tmp_path, text, told):
    owner = "owner: fork\n" if text.startswith("schedule") else ""
    (tmp_path / "schedules.yaml").write_text(owner + text)
    with pytest.raises(UserError, match=told):
        load(tmp_path / "schedules.yaml")
