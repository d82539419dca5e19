"""The report opens anywhere, loads nothing, tells everything, and trusts no text."""

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from slipway.project import Project
from slipway.report import evaluation_page, page, summary, text, write_report

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
TASKS = ("binary", "multiclass", "regression")
STEPS = ("ingest", "validate", "features", "train", "evaluate", "register")
SECTIONS = [
    "data",
    "validation",
    "features",
    "training",
    "evaluation",
    "importance",
    "serving",
    "lineage",
    "time",
]
VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = """</script><img src=x onerror=alert(1)> "q" %{x} <b>bold</b> &amp; @blue"""


class Parsed(HTMLParser):
    """Tags with their attributes, the text outside of scripts, and what is not balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.style = ""
        self.feed(html)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.faults.append(f"</{tag}> inside {self.open[-3:]}")

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts[-1] += data
        elif inside == "style":
            self.style += data
        else:
            self.text += data

    def all(self, name: str) -> list[str]:
        return [found[name] for _, found in self.tags if found.get(name) is not None]

    @property
    def policy(self) -> str:
        return next(found["content"] for _, found in self.tags if found.get("http-equiv"))

    @property
    def figures(self):
        return json.loads(self.scripts[0])


def run_of(task):
    return json.loads((FIXTURES / f"records_{task}.json").read_text(encoding="utf-8"))


def facts_of(run, step):
    return next(record["facts"] for record in run["records"] if record["step"] == step)


def project_of(task):
    project = Project.load(ROOT / "project.yaml")
    contract = project.contract
    target = contract.target.model_copy(update={"task": task})
    return replace(project, contract=contract.model_copy(update={"target": target}))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Write the report of a run and read it back; without Plotly's 5 MB, which one test keeps."""
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")

    def write_and_read(run, task="binary"):
        out = write_report(
            run["records"], run["score"], project_of(task), tmp_path / "index.html", run["seconds"]
        )
        return Parsed(out.read_text(encoding="utf-8"))

    return write_and_read


def colors(value, inside=False):
    """Every `@name` that stands where a colour stands."""
    if isinstance(value, str):
        return {value.removeprefix("@").split("/")[0]} if inside and value[:1] == "@" else set()
    if isinstance(value, list):
        return {name for item in value for name in colors(item, inside)}
    if isinstance(value, dict):
        return {
            name
            for key, item in value.items()
            for name in colors(item, inside or "color" in key.lower())
        }
    return set()


def test_the_real_page_opens_without_a_network(tmp_path):
    run = run_of("binary")
    out = write_report(run["records"], run["score"], project_of("binary"), tmp_path / "index.html")
    parsed = Parsed(out.read_text(encoding="utf-8"))
    assert not parsed.faults
    assert not [tag for tag, found in parsed.tags if "src" in found]
    assert all(link.startswith(("#", "data:")) for link in parsed.all("href"))
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style
    _, plotly, drawing = parsed.scripts
    assert len(plotly) > 3_000_000
    assert "Plotly.react" in drawing
    rules = dict(rule.strip().split(" ", 1) for rule in parsed.policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in (plotly, drawing)
    ]
    assert rules["script-src"].split() == digests


def test_a_report_takes_under_a_second_and_no_heavy_import():
    code = """
import json, sys, time
from pathlib import Path
from slipway.project import Project
import tempfile
run = json.loads(Path("tests/fixtures/records_binary.json").read_text())
project = Project.load("project.yaml")
started = time.process_time()
from slipway.report import write_report
with tempfile.TemporaryDirectory() as folder:
    write_report(run["records"], run["score"], project, Path(folder) / "index.html")
print(time.process_time() - started)
print(*{name.split(".")[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    seconds, modules = done.stdout.splitlines()
    assert float(seconds) < 1
    heavy = {"plotly", "pandas", "numpy", "pyarrow", "scipy", "sklearn", "matplotlib", "duckdb"}
    assert not heavy & set(modules.split())


@pytest.mark.parametrize("task", TASKS)
def test_no_section_is_lost_in_any_task(read, task):
    parsed = read(run_of(task), task)
    assert not parsed.faults
    assert len(parsed.all("id")) == len(set(parsed.all("id")))
    assert [name for name in parsed.all("id") if name in SECTIONS] == SECTIONS
    assert parsed.all("href")[1:] == [f"#{name}" for name in SECTIONS]
    assert {f"figure-{name}" for name in parsed.figures} <= set(parsed.all("id"))
    assert "no record of" not in parsed.text


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("binary", {"roc", "pr", "calibration", "metric-roc_auc", "months", "drift", "slice-2"}),
        ("multiclass", {"confusion", "classes", "metric-f1_macro", "setting-0"}),
        ("regression", {"scatter", "residuals", "metric-r2", "months", "importance"}),
    ],
)
def test_each_task_gets_its_own_plots(read, task, expected):
    figures = read(run_of(task), task).figures
    assert expected <= set(figures)
    assert ("roc" in figures) == (task == "binary")


@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_a_record_is_said_to_be_missing_and_breaks_nothing(read, step):
    run = run_of("binary")
    run["records"] = [record for record in run["records"] if record["step"] != step]
    parsed = read(run)
    assert not parsed.faults
    assert [name for name in parsed.all("id") if name in SECTIONS] == SECTIONS
    if step != "register":
        assert f"no record of the step “{step}”" in parsed.text


def test_an_empty_run_still_gives_a_page(read):
    parsed = read({"records": [], "score": None, "seconds": None})
    assert not parsed.faults
    assert "Unfinished" in parsed.text
    assert parsed.scripts == ["{}"]
    assert "script-src 'none'" in parsed.policy


def test_a_hostile_name_is_shown_and_does_nothing(read):
    run = run_of("binary")
    tags = len(read(run).tags)
    evaluate, features = facts_of(run, "evaluate"), facts_of(run, "features")
    evaluate["slices"][0]["value"] = HOSTILE
    evaluate["worst"][0]["key"]["carrier"] = HOSTILE
    evaluate["gates"][0]["detail"] = HOSTILE
    features["null_share"][0]["feature"] = features["drift"][0]["feature"] = HOSTILE
    features["views"][0]["name"] = HOSTILE
    facts_of(run, "train")["importance"][0]["feature"] = HOSTILE
    facts_of(run, "ingest")["sources"][0]["uri"] = HOSTILE
    facts_of(run, "validate")["failures"][0]["examples"] = [HOSTILE]
    facts_of(run, "register")["model"] = HOSTILE
    parsed = read(run)
    assert not parsed.faults
    assert len(parsed.tags) == tags
    assert not [tag for tag, found in parsed.tags if tag == "img" or "onerror" in found]
    assert HOSTILE in parsed.text
    assert HOSTILE in parsed.all("title")
    assert HOSTILE[:10] in str(parsed.figures["importance"]["layout"]["yaxis"]["ticktext"])
    [hover] = [t for t in parsed.figures["importance"]["data"][0]["hovertext"] if "onerror" in t]
    assert hover.startswith("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;")


def test_a_multiclass_label_cannot_smuggle_markup_into_the_confusion_matrix(read):
    run = run_of("multiclass")
    facts_of(run, "evaluate")["classes"][0] = "<b>rain</b>"
    confusion = read(run, "multiclass").figures["confusion"]
    assert confusion["layout"]["xaxis"]["ticktext"][0] == "&lt;b&gt;rain&lt;/b&gt;"
    assert "<b>" not in str(confusion["data"])


@pytest.mark.parametrize("task", TASKS)
def test_every_colour_exists_in_light_and_in_dark(read, task):
    parsed = read(run_of(task), task)
    light, dark = (
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root[^{]*\{([^}]*--page[^}]*)\}", parsed.style)
    )
    keys = set(re.findall(r"var\(--([a-z0-9-]+)\)", " ".join(parsed.all("style"))))
    used = (colors(parsed.figures) | keys) - {"none"}
    assert used
    assert used <= set(light)
    assert used <= set(dark)


def test_a_model_keeps_its_colour_from_plot_to_plot(read):
    figures = read(run_of("binary")).figures
    by_metric = [trace["marker"]["color"] for trace in figures["metric-brier"]["data"][1::2]]
    by_curve = [trace["line"]["color"] for trace in figures["roc"]["data"][1:]]
    assert by_metric == by_curve
    assert len(set(by_curve)) == 4


def test_a_wide_table_of_features_stays_readable_and_whole(read):
    run = run_of("binary")
    features, train = facts_of(run, "features"), facts_of(run, "train")
    names = [f"a_view_with_a_long_name__and_feature_number_{at:03}" for at in range(120)]
    features["features"] = 120
    features["null_share"] = [{"feature": name, "train": 0.1, "test": 0.2} for name in names]
    features["drift"] = [{"feature": name, "psi": 0.3, "ks": 0.1} for name in names]
    train["importance"] = [{"feature": name, "value": 0.1} for name in names]
    parsed = read(run)
    for name in ("nulls", "drift", "importance"):
        assert len(parsed.figures[name]["layout"]["yaxis"]["ticktext"]) == 30
        assert parsed.figures[name]["layout"]["height"] < 800
    assert all(parsed.text.count(name) == 2 for name in names)
    assert "The 30 largest of 120" in parsed.text


def test_two_features_without_a_null_need_no_plot_of_nulls(read):
    run = run_of("regression")
    features = facts_of(run, "features")
    features["null_share"] = [{"feature": f, "train": 0.0, "test": 0.0} for f in ("a", "b")]
    features["drift"] = [{"feature": f, "psi": None, "ks": None} for f in ("a", "b")]
    parsed = read(run, "regression")
    assert "nulls" not in parsed.figures
    assert not parsed.faults


def test_the_head_says_which_gate_held_the_candidate_back(read):
    head = read(run_of("multiclass"), "multiclass").text.split("Finished")[0]
    assert "Version 1 was kept back as challenger, there is no champion yet" in head
    assert "log_loss ≤ 0.7: 0.7440 is above 0.7" in head


@pytest.mark.parametrize(
    ("previous", "said"),
    [
        ("3", "Version 4 is the new champion"),
        ("4", "Version 4 is the champion, as before this run"),
        (None, "It is the first."),
    ],
)
def test_the_head_says_what_became_of_the_champion(read, previous, said):
    run = run_of("binary")
    facts_of(run, "register")["previous_champion"] = previous
    assert said in read(run).text


def test_looks_at_the_test_window_are_confessed(read):
    assert "2 candidates have been scored on it so far" in read(run_of("binary")).text


@pytest.mark.parametrize(("difference", "said"), [(0.0, "agree"), (0.01, "disagree")])
def test_a_skew_between_training_and_serving_is_not_praised(read, difference, said):
    run = run_of("binary")
    run["score"]["difference"] = difference
    assert f"Training and serving {said}" in read(run).text


def test_a_slow_start_owes_a_reason(read):
    run = run_of("binary")
    for record in run["records"]:
        record["seconds"]["imports"] = 0.1
    assert "to start:" not in read(run).text
    for record in run["records"]:
        if record["step"] in ("ingest", "train"):
            record["seconds"]["imports"] = 6.0
    parsed = read(run)
    assert "train takes 6.5 s to start: Torch" in parsed.text
    assert "ingest takes 6.4 s to start: no reason is known" in parsed.text


def test_the_summary_holds_what_scripts_read():
    run = run_of("binary")
    found = summary(run["records"], run["score"], run["seconds"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["data_version"] == "3f9a1c0b77de2415"
    assert found["rows"] == {
        "sources": 367_671,
        "train": 244_193,
        "validate": 28_590,
        "test": 53_876,
    }
    assert found["features"] == 35
    assert [model["name"] for model in found["models"]] == [
        "candidate",
        "champion",
        "linear",
        "prior",
    ]
    roc_auc = found["models"][0]["metrics"]["roc_auc"]
    assert roc_auc == {"value": 0.7412, "low": 0.7369, "high": 0.7455}
    assert (found["version"], found["alias"], found["champion"]) == ("4", "champion", "4")
    assert found["p50_ms"] == 4.31
    assert found["seconds"] == 66.4
    assert [step["step"] for step in found["steps"]] == list(STEPS)
    assert found["steps"][0]["seconds"] == pytest.approx(
        found["steps"][0]["startup"] + found["steps"][0]["imports"] + found["steps"][0]["work"]
    )
    assert found["reused"] == []


def test_the_summary_does_not_count_the_time_of_reused_steps():
    run = run_of("multiclass")
    found = summary(run["records"], run["score"])
    assert found["reused"] == ["ingest", "validate"]
    assert [step["seconds"] for step in found["steps"][:2]] == [0.0, 0.0]
    ran = run["records"][2:]
    assert found["seconds"] == pytest.approx(ran[-1]["ended"] - ran[0]["started"])
    everything = [record | {"reused": True} for record in run["records"]]
    assert summary(everything, None)["seconds"] is None


def test_the_summary_of_an_unfinished_run_is_null_where_nothing_is_known():
    found = summary([], None)
    assert found["data_version"] is None
    assert found["rows"]["sources"] is None
    assert found["models"] == found["steps"] == []


@pytest.mark.parametrize("task", TASKS)
def test_the_kfp_page_holds_the_evaluation_and_nothing_else(monkeypatch, task):
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")
    facts = facts_of(run_of(task), "evaluate")
    before = copy.deepcopy(facts)
    parsed = Parsed(evaluation_page(facts))
    assert facts == before
    assert not parsed.faults
    assert [name for name in parsed.all("id") if name in SECTIONS] == ["evaluation"]
    assert ("Kept back" in parsed.text) == (not facts["passed"])


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.number(336_776), "336,776"),
        (text.number(0.741234), "0.7412"),
        (text.number(-12.3456), "−12.35"),  # noqa: RUF001
        (text.number(1.2e-7, 3), "1.2 × 10⁻⁷"),  # noqa: RUF001
        (text.number(None), "–"),  # noqa: RUF001
        (text.percent(0.00004), "< 0.1%"),
        (text.percent(0.2455), "24.6%"),
        (text.size(29_600_000), "29.6 MB"),
        (text.size(999_900), "1.0 MB"),
        (text.duration(0.254), "0.25 s"),
        (text.duration(125), "2 min 05 s"),
        (text.duration(4_000), "1 h 06 min"),
        (text.count(1, "row"), "1 row"),
        (text.listed(["a", "b", "c"]), "a, b and c"),
        (text.anything(2013, text.UTC), "2013"),
        (text.anything("2013-12-05T17:00:00Z", text.UTC), "5 Dec 2013, 17:00"),
        (text.short("a" * 20 + "b" * 20, 16), "aaaaaaaaaa…bbbbb"),
    ],
)
def test_numbers_are_shown_as_people_read_them(shown, expected):
    assert shown == expected
