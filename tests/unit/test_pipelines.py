"""The pipeline as a file, and what KFP says of its runs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from urllib3.exceptions import MaxRetryError

from components.release.rollout import READY_SECONDS
from pipelines import runs
from pipelines.api import Api, ApiError
from pipelines.compile import built_images, compile_training, path_in_image
from pipelines.connect import Cluster
from pipelines.local import StepFailed
from pipelines.schedules import Schedules, load, reconcile
from pipelines.submit import Version, follow, mistake, start, upload
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


def test_only_steps_that_depend_on_their_inputs_alone_come_from_the_cache(compiled):
    tasks = next(yaml.safe_load_all(compiled.read_text()))["root"]["dag"]["tasks"]
    cached = {name for name, one in tasks.items() if one["cachingOptions"].get("enableCache")}
    assert cached == {"validate", "features", "train"}


def test_only_the_steps_that_start_something_have_an_account_of_their_own(compiled):
    labels = {
        name: one["podMetadata"]["labels"]
        for name, one in executors(compiled)[1].items()
        if "podMetadata" in one
    }
    assert labels == {
        "exec-train": {"slipway/service-account": "pipeline-trainer"},
        "exec-release": {"slipway/service-account": "pipeline-releaser"},
    }


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


def test_other_images_are_another_version_of_the_same_commit():
    names = []

    class Uploads(Versions):
        def upload_version(self, pipeline, name, description, file):
            names.append(name)
            return {"pipeline_version_id": name}

    project = Project.load(ROOT / "project.yaml")
    for images in (BUILT, BUILT, {**BUILT, "serve": "registry/serve:2"}):
        upload(Uploads(False), project, images)
    assert names[0] == names[1] != names[2]
    assert names[0].rpartition("-")[0] == names[2].rpartition("-")[0]


class Runs:
    """KFP's runs of one experiment, the newest first; notes what is made."""

    def __init__(self, *there):
        self.there, self.made = list(there), []

    def experiment(self, name):
        return "e"

    def runs(self, experiment):
        return self.there

    def create_run(self, body):
        self.made.append(body)
        return {"run_id": "new"}


def run_on(version, state, **parameters):
    return {
        "run_id": "there",
        "state": state,
        "pipeline_version_reference": {"pipeline_version_id": version},
        "runtime_config": {"parameters": parameters},
    }


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (run_on("v", "RUNNING", as_of="2013-12-01"), True),
        (run_on("v", "PENDING", as_of="2013-12-01"), True),
        (run_on("v", "SUCCEEDED", as_of="2013-12-01"), False),
        (run_on("v", "FAILED", as_of="2013-12-01"), False),
        (run_on("v", "RUNNING", as_of="2013-11-01"), False),
        (run_on("v", "RUNNING"), False),
        (run_on("w", "RUNNING", as_of="2013-12-01"), False),
    ],
)
def test_an_equal_run_on_its_way_is_taken_and_no_other(there, taken):
    api = Runs(there)
    found = start(
        api, Project.load(ROOT / "project.yaml"), Version("p", "v", "1", False), "2013-12-01"
    )
    assert found == (("there", False) if taken else ("new", True))
    assert [body["runtime_config"]["parameters"] for body in api.made] == (
        [] if taken else [{"as_of": "2013-12-01"}]
    )


class Ended:
    """The cluster of a run that failed in `ingest`, whose pod left these words."""

    def __init__(self, said, **more):
        failed = (("ingest-driver", "SUCCEEDED", 5, 10), ("ingest", "FAILED", 10, 20))
        self.said, self.found = said, {**run_of(*failed, state="FAILED"), **more}
        self.api = self

    def run(self, identity):
        return {**self.found, "run_id": identity}

    def pods(self, run):
        terminated = {"name": "main", "state": {"terminated": {"message": self.said}}}
        return [
            {
                "metadata": {"name": "p", "creationTimestamp": "2026-11-21T10:00:00Z"},
                "status": {"phase": "Failed", "containerStatuses": [terminated]},
            }
        ]

    def log(self, pod, container="main", lines=0):
        return f"last words of {pod}"


def test_a_users_mistake_ends_a_run_in_its_own_words_and_all_else_with_the_log():
    told = FAILURE + json.dumps({"step": "ingest", "message": "flights.csv: no such file."})
    with pytest.raises(UserError, match=r"^flights.csv: no such file.$"):
        follow(Ended(told), "r", lambda event: None)
    with pytest.raises(StepFailed, match=r"(?s)step ingest failed\nlast words of p.*runs retry r"):
        follow(Ended("Segmentation fault"), "r", lambda event: None)
    terminated = [{"state": "CANCELING"}, {"state": "CANCELED"}]
    with pytest.raises(StepFailed, match="run r was terminated"):
        follow(Ended("", state_history=terminated), "r", lambda event: None)


@pytest.fixture
def server(monkeypatch):
    """Gives the answers in `answers`, one after another, and notes what it was asked."""
    asked, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def _do(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(f"{self.command} {self.path.removeprefix('/apis/v2beta1/')}")
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_):
            pass

    monkeypatch.setattr("pipelines.api.time.sleep", lambda seconds: None)
    monkeypatch.setattr("pipelines.api.PATIENCE", 2)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, args=[0.02], daemon=True).start()
        yield Api(f"127.0.0.1:{web.server_port}"), answers, asked
        web.shutdown()


def test_every_page_is_read(server):
    api, answers, asked = server
    answers += [
        (200, {"runs": [{"run_id": "a"}], "next_page_token": "more"}),
        (200, {"runs": [{"run_id": "b"}]}),
    ]
    assert [run["run_id"] for run in api.runs()] == ["a", "b"]
    assert "page_token=more" in asked[1]


def test_a_server_that_is_away_is_asked_again_but_a_run_is_never_made_twice(server):
    api, answers, asked = server
    answers += [(503, {}), (500, {"message": "no database"}), (200, {"run_id": "a"})]
    assert api.run("a") == {"run_id": "a"}
    answers += [(503, {}), (200, {})]
    api.terminate("a")
    answers += [(503, {})]
    with pytest.raises(ApiError, match=r"does not answer .HTTP 503"):
        api.create_run({})
    assert asked == ["GET runs/a"] * 3 + ["POST runs/a:terminate"] * 2 + ["POST runs"]
    answers += [(400, {"message": "no such version"})]
    with pytest.raises(ApiError, match=r"no such version .HTTP 400"):
        api.create_run({})


class Recurring(Runs):
    """KFP's recurring runs."""

    def recurring_runs(self):
        return list(self.there)

    def create_recurring_run(self, body):
        self.there.append({**body, "recurring_run_id": f"{body['display_name']}-{len(self.there)}"})

    def delete_recurring_run(self, identity):
        [gone] = [one for one in self.there if one["recurring_run_id"] == identity]
        self.there.remove(gone)


def test_recurring_runs_become_those_of_the_file_and_others_stay():
    api = Recurring({"display_name": "nightly", "description": "by hand", "recurring_run_id": "x"})
    project = Project.load(ROOT / "project.yaml")

    def now(owner, **crons):
        wanted = Schedules.model_validate(
            {"owner": owner, "schedules": [{"name": n, "cron": c} for n, c in crons.items()]}
        )
        changes = reconcile(api, wanted, lambda one: (project, Version("p", "v", "1", False)))
        return {change.name: change.done for change in changes}

    two, three = "0 0 2 * * *", "0 0 3 * * *"
    assert now("us", nightly=two, weekly=two) == {"nightly": "created", "weekly": "created"}
    assert now("us-too", nightly=two) == {"nightly": "created"}
    assert now("us", nightly=two, weekly=three) == {"nightly": "unchanged", "weekly": "replaced"}
    assert now("us", weekly=three) == {"weekly": "unchanged", "nightly": "removed"}
    assert now("us-too") == {"nightly": "removed"}
    assert now("us") == {"weekly": "removed"}
    assert [one["recurring_run_id"] for one in api.there] == ["x"]
    now("us", nightly=two)
    assert api.there[1]["no_catchup"] is True
    assert api.there[1]["max_concurrency"] == "1"


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
