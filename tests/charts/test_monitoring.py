"""Rules, dashboards and runbooks fit what is measured; the chart does as its values say."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from slipway import names
from tests.charts.pods import pods
from tests.charts.render import ROOT, fails, load, profile_of, render, template

FOLDER = ROOT / "monitoring"
RULES = sorted((FOLDER / "rules").glob("*.yaml"))
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
SEVERITIES = {"critical", "warning", "none"}
FOREIGN = load(FOLDER / "metrics.yaml")
WORDS = {
    *("and", "or", "unless", "on", "ignoring", "group_left", "group_right", "by", "without"),
    *("offset", "bool", "inf", "nan"),
}


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules that record, or all that alert."""
    groups = [group for path in RULES for group in load(path)["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def queries(panel: dict[str, Any]) -> Iterator[str]:
    for target in panel.get("targets", []):
        yield target["expr"]


def metrics(query: str) -> set[str]:
    """Names of the series that a query reads."""
    query = re.sub(r'"[^"]*"', "", query)
    query = re.sub(r"\{[^}]*\}", "", query)
    query = re.sub(r"\[[^]]*\]", "", query)
    query = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", query)
    query = re.sub(r"label_values\((?:([\w:]+)\s*,)?\s*\w+\)", r"\1", query)
    found = set(re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", query))
    return found - WORDS


def known() -> set[str]:
    ours = {str(family) for family in names.FAMILIES} | set(names.PROCESS) | {names.PYTHON}
    for family in names.FAMILIES:
        if family.kind == "histogram":
            ours |= {f"{family}_{end}" for end in ("bucket", "sum", "count")}
    recorded = {rule["record"] for rule in rules("record")}
    objectives = {
        rule["record"]
        for one in template("monitoring")
        if one["kind"] == "PrometheusRule"
        for group in one["spec"]["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    return ours | recorded | objectives | {name for listed in FOREIGN.values() for name in listed}


def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("no promtool: it comes with Prometheus (apt-get install prometheus)")
    return found


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(path):
    done = subprocess.run([promtool(), "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_are_silent_otherwise(path):
    tests = FOLDER / "tests" / path.name
    done = subprocess.run([promtool(), "test", "rules", tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways():
    fires, silent = set(), set()
    for path in FOLDER.glob("tests/*.yaml"):
        for test in load(path)["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case.get("exp_alerts") else silent).add(case["alertname"])
    alerts = {rule["alert"] for rule in rules("alert")}
    assert fires == alerts
    assert silent == alerts - {"Watchdog"}  # it always fires


def test_every_alert_says_how_bad_it_is_and_what_happened():
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in SEVERITIES, rule["alert"]
        assert rule["annotations"]["summary"].strip(), rule["alert"]


def test_every_alert_has_a_runbook_that_tells_what_to_do():
    alerts = {rule["alert"] for rule in rules("alert")}
    runbooks = {path.stem: path for path in (FOLDER / "runbooks").glob("*.md")}
    assert set(runbooks) == alerts
    for alert, path in runbooks.items():
        text = path.read_text()
        assert text.startswith(f"# {alert}\n"), path
        assert re.search(r"^## ", text, re.MULTILINE), f"{path} has no sections"
        assert re.search(r"^    \S", text, re.MULTILINE), f"{path} names no command"


def test_rules_read_only_metrics_that_somebody_exposes():
    for rule in rules("expr"):
        unknown = metrics(rule["expr"]) - known()
        assert not unknown, f"{rule.get('alert', rule.get('record'))} reads {unknown}"


def test_every_foreign_metric_that_is_listed_is_read():
    read = {name for rule in rules("expr") for name in metrics(rule["expr"])}
    for path in DASHBOARDS:
        dashboard = load(path)
        for panel in dashboard["panels"]:
            read |= {name for query in queries(panel) for name in metrics(query)}
        for choice in dashboard["templating"]["list"]:
            read |= metrics(choice["definition"])
    assert {name for listed in FOREIGN.values() for name in listed} <= read


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_read_only_metrics_that_somebody_exposes(path):
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        for query in queries(panel):
            unknown = metrics(query) - known()
            assert not unknown, f"{panel['title']} reads {unknown}"
    for choice in dashboard["templating"]["list"]:
        assert metrics(choice["definition"]) <= known()


def test_queries_of_dashboards_are_promql(tmp_path):
    asked = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(
            query
            for path in DASHBOARDS
            for panel in load(path)["panels"]
            for query in queries(panel)
        )
    ]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": asked}]}))
    done = subprocess.run(
        [promtool(), "check", "rules", "--lint=none", tmp_path / "rules.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_a_place_of_their_own_and_a_unit(path):
    dashboard = json.loads(path.read_text())
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["targets"], panel["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_dashboards_are_what_their_source_says():
    source = FOLDER / "dashboards.py"
    spec = importlib.util.spec_from_file_location("dashboards", source)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {path.stem: path.read_text() for path in DASHBOARDS}
    assert module.dashboards() == written, "run: python monitoring/dashboards.py"


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def test_rules_reach_prometheus_with_the_address_of_their_runbook():
    objects = template("monitoring", {"rules": {"runbooks": "https://wiki.example.com/alerts/"}})
    loaded = [
        rule
        for one in of_kind(objects, "PrometheusRule").values()
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    ]
    alerts = {rule["alert"]: rule for rule in loaded if "alert" in rule}
    for rule in rules("alert"):
        got = alerts[rule["alert"]]
        url = got["annotations"].pop("runbook_url")
        assert url == f"https://wiki.example.com/alerts/{rule['alert']}.md"
        assert got == rule
    assert not of_kind(template("monitoring", {"rules": {"enabled": False}}), "PrometheusRule")


def test_a_model_may_have_objectives_of_its_own(tmp_path):
    values = {"objectives": {"models": {"flights": {"latencySeconds": 0.05}}}}
    objects = template("monitoring", values)
    spec = of_kind(objects, "PrometheusRule")["slipway-objectives"]["spec"]
    (tmp_path / "rules.json").write_text(json.dumps(spec))
    served = 'slipway_model_info{model="%s", version="1"}'

    def sample(record: str, value: float, **labels: str) -> dict[str, Any]:
        told = ", ".join(f'{name}="{text}"' for name, text in labels.items())
        return {"labels": f"{record}{{{told}}}", "value": value}

    latency, availability = (
        "slipway:objective_latency:seconds",
        "slipway:objective_availability:ratio",
    )
    cases = {
        latency: [sample(latency, 0.05, model="flights"), sample(latency, 0.25, model="other")],
        availability: [
            sample(availability, 0.995, model="flights"),
            sample(availability, 0.995, model="other"),
        ],
    }
    test = {
        "rule_files": ["rules.json"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": served % model, "values": "1x10"} for model in ("flights", "other")
                ],
                "promql_expr_test": [
                    {"expr": record, "eval_time": "5m", "exp_samples": samples}
                    for record, samples in cases.items()
                ],
            }
        ],
    }
    (tmp_path / "test.json").write_text(json.dumps(test))
    done = subprocess.run(
        [promtool(), "test", "rules", tmp_path / "test.json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_is_told_until_a_receiver_has_a_secret():
    config = of_kind(template("monitoring"), "AlertmanagerConfig")["slipway"]["spec"]
    assert config["route"]["receiver"] == "nobody"
    assert [one["name"] for one in config["receivers"]] == ["nobody"]


def test_receivers_take_their_address_from_a_secret_and_show_summary_and_runbook():
    receivers = {
        "slack": {"secret": "chat", "channel": "#ml"},
        "webhook": {"secret": "pager", "key": "address"},
        "watchdog": {"secret": "dead-man"},
    }
    objects = template("monitoring", {"alertmanager": {"receivers": receivers}})
    config = of_kind(objects, "AlertmanagerConfig")["slipway"]["spec"]
    told = {one["name"]: one for one in config["receivers"]}
    assert config["route"]["receiver"] == "people"
    assert config["route"]["routes"][0]["receiver"] == "watchdog"
    assert told["people"]["slackConfigs"][0]["apiURL"] == {"name": "chat", "key": "url"}
    assert "runbook_url" in told["people"]["slackConfigs"][0]["text"]
    assert told["people"]["webhookConfigs"][0]["urlSecret"] == {"name": "pager", "key": "address"}
    assert told["watchdog"]["webhookConfigs"][0]["urlSecret"]["name"] == "dead-man"


def test_prometheus_takes_every_target_and_rule_of_the_cluster():
    """An absent selector is none at all; an empty one is everything."""
    spec = of_kind(template("monitoring"), "Prometheus")["slipway"]["spec"]
    for kind in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig", "rule"):
        assert spec[f"{kind}Selector"] == spec[f"{kind}NamespaceSelector"] == {}, kind


def test_prometheus_sends_alerts_to_a_port_that_there_is():
    objects = template("monitoring")
    prometheus = of_kind(objects, "Prometheus")["slipway"]
    [target] = prometheus["spec"]["alerting"]["alertmanagers"]
    service = of_kind(objects, "Service")[target["name"]]
    assert target["namespace"] == service["metadata"]["namespace"]
    assert target["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_without_alertmanager_prometheus_does_not_look_for_it():
    objects = template("monitoring", {"alertmanager": {"enabled": False}})
    assert not of_kind(objects, "Alertmanager")
    assert "alerting" not in of_kind(objects, "Prometheus")["slipway"]["spec"]
    assert "alertmanager" not in of_kind(objects, "ConfigMap")["grafana-datasource"]["data"]


def test_grafana_gets_dashboards_data_source_and_password():
    objects = template("monitoring")
    maps = of_kind(objects, "ConfigMap")
    assert set(maps["grafana-dashboards"]["data"]) == {path.name for path in DASHBOARDS}
    for path in DASHBOARDS:
        assert json.loads(maps["grafana-dashboards"]["data"][path.name]) == load(path)
    assert (
        "http://prometheus.default:9090" in maps["grafana-datasource"]["data"]["datasources.yaml"]
    )
    pod = of_kind(objects, "Deployment")["grafana"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["admin"]["secret"] == {"secretName": "grafana"}
    assert not of_kind(template("monitoring", {"grafana": {"enabled": False}}), "Deployment")


@pytest.mark.parametrize("part", ["prometheus", "alertmanager", "grafana"])
def test_volumes_only_where_they_are_wanted(part):
    def claims(enabled: bool) -> str:
        values = {
            part: {"persistence": {"enabled": enabled, "size": "7Gi", "storageClass": "fast"}}
        }
        return json.dumps(template("monitoring", values))

    assert "7Gi" in claims(True)
    assert "fast" in claims(True)
    assert "7Gi" not in claims(False)


@pytest.mark.parametrize("part", ["prometheus", "alertmanager", "grafana"])
def test_a_route_is_made_on_request(part):
    assert part not in of_kind(template("monitoring"), "HTTPRoute")
    route = {"enabled": True, "host": "x.example.com", "gateway": {"name": "g", "namespace": "n"}}
    made = of_kind(template("monitoring", {part: {"route": route}}), "HTTPRoute")[part]["spec"]
    assert made["hostnames"] == ["x.example.com"]
    assert made["parentRefs"] == [{"name": "g", "namespace": "n"}]


@pytest.mark.parametrize("target", ["traefik", "kserve", "kuberay"])
def test_a_target_can_live_elsewhere_or_be_left_out(target):
    moved = template("monitoring", {"targets": {target: {"namespace": "elsewhere"}}})
    monitor = of_kind(moved, "PodMonitor")[target]
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["elsewhere"]}
    off = template("monitoring", {"targets": {target: {"enabled": False}}})
    assert target not in of_kind(off, "PodMonitor")


def test_the_kubelet_is_asked_with_a_token_of_our_own_and_gives_only_what_is_read():
    objects = template("monitoring")
    scrapes = of_kind(objects, "ScrapeConfig")
    kept = " ".join(
        rule["regex"]
        for one in scrapes.values()
        for rule in one["spec"]["metricRelabelings"]
        if rule["action"] == "Keep"
    )
    for name in FOREIGN["kubelet"]:
        assert re.search(kept.split()[0], name) or re.search(kept.split()[1], name), name
    classes = of_kind(objects, "Prometheus")["slipway"]["spec"]["scrapeClasses"]
    assert [one["name"] for one in classes] == ["kubelet"]
    off = template("monitoring", {"targets": {"kubelet": {"enabled": False}}})
    assert not of_kind(off, "ScrapeConfig")
    assert "scrapeClasses" not in of_kind(off, "Prometheus")["slipway"]["spec"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"prometheus": {"image": {"tag": "stable"}}},
            "the operator derives flags from the version",
        ),
        ({"alertmanager": {"image": {"tag": ""}}}, "give a tag or a digest"),
        ({"grafana": {"enabled": False, "route": {"enabled": True}}}, "set grafana.enabled"),
        (
            {"alertmanager": {"enabled": False, "route": {"enabled": True}}},
            "set alertmanager.enabled",
        ),
        ({"prometheus": {"retentionsize": "1GB"}}, "retentionsize"),
        ({"objectives": {"models": {"flights": {"latency": 1}}}}, "latency"),
        ({"objectives": {"default": {"availability": 99.9}}}, "availability"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence_that_names_it(values, said):
    assert said in fails("monitoring", values)


def test_replicas_are_spread_over_nodes_and_not_evicted_together():
    values = {"prometheus": {"replicas": 2}, "alertmanager": {"replicas": 3}}
    objects = template("monitoring", values)
    for kind in ("Prometheus", "Alertmanager"):
        spec = of_kind(objects, kind)["slipway"]["spec"]
        assert spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
        [pod] = pods([of_kind(objects, kind)["slipway"]])
        budget = of_kind(objects, "PodDisruptionBudget")[kind.lower()]["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"].items() <= pod.labels.items()
    assert not of_kind(template("monitoring"), "PodDisruptionBudget")
    values["alertmanager"]["enabled"] = False
    assert set(of_kind(template("monitoring", values), "PodDisruptionBudget")) == {"prometheus"}


@pytest.mark.parametrize(("kind", "port"), [("Prometheus", 9090), ("Alertmanager", 9093)])
def test_links_in_alerts_lead_to_where_people_open_the_page(kind, port):
    def link(**values: Any) -> str:
        objects = template("monitoring", {kind.lower(): values})
        return str(of_kind(objects, kind)["slipway"]["spec"]["externalUrl"])

    route = {"enabled": True, "host": "x.example.com"}
    assert link() == f"http://{kind.lower()}.default:{port}"
    assert link(route=route) == "http://x.example.com"
    assert link(route=route, url="https://y.example.com") == "https://y.example.com"


def test_links_of_the_laptop_name_the_port_of_its_gateway():
    objects = render("monitoring", "laptop")
    port = urlsplit(profile_of("laptop")["url"]).port
    for route in of_kind(objects, "HTTPRoute").values():
        [host] = route["spec"]["hostnames"]
        assert f"http://{host}:{port}" in json.dumps(objects)


def test_the_rules_of_the_chart_are_those_of_the_folder():
    for name in ("rules", "dashboards"):
        link = ROOT / "charts" / "monitoring" / name
        assert link.is_symlink()
        assert Path(link).resolve() == FOLDER / name
