"""Prometheus reads what runs: every monitor leads somewhere, and a released model is counted."""

import time
from pathlib import Path

import httpx
import pytest
import yaml

from ops.cluster import wait
from slipway.cli._first_run import steps_environment
from slipway.files import read_json
from slipway.project import Project
from slipway.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "rules"
SECONDS = 180
"""Until a new target is found (the operator writes the configuration anew) and read twice."""
REQUESTS = 25


@pytest.fixture(scope="module")
def prometheus(platform, record):
    """Asks the HTTP API of the Prometheus that charts/monitoring runs."""
    if "monitoring" not in {release["name"] for release in record["releases"]}:
        pytest.skip("the platform was deployed without the release monitoring")
    with (
        platform.forward("monitoring", "prometheus", 9090) as address,
        httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, timeout=30) as client,
    ):

        def ask(path, **query):
            answer = client.get(path, params=query)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]

        yield ask


def values(prometheus, query):
    """labels and number of each series that the query finds."""
    found = prometheus("/query", query=query)["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]


def number(prometheus, query):
    found = values(prometheus, query)
    return found[0][1] if found else None


def pools(cluster):
    """Of every monitor on the cluster, what the operator calls its targets."""
    found = set()
    for kind, endpoints in (
        ("serviceMonitor", "endpoints"),
        ("podMonitor", "podMetricsEndpoints"),
    ):
        for one in cluster.get(f"{kind.lower()}s.monitoring.coreos.com"):
            meta = one["metadata"]
            found |= {
                f"{kind}/{meta['namespace']}/{meta['name']}/{at}"
                for at in range(len(one["spec"][endpoints]))
            }
    for one in cluster.get("scrapeconfigs.monitoring.coreos.com"):
        found.add(f"scrapeConfig/{one['metadata']['namespace']}/{one['metadata']['name']}")
    return found


def test_every_monitor_leads_to_a_target_that_answers(platform, prometheus):
    wanted = pools(platform)
    assert len(wanted) > 5
    targets, up = [], set()
    for _ in wait(SECONDS, 5):
        targets = prometheus("/targets", state="active")["activeTargets"]
        up = {one["scrapePool"] for one in targets if one["health"] == "up"}
        if wanted <= up:
            break
    why = {one["scrapePool"]: one["lastError"] for one in targets if one["health"] != "up"}
    assert not wanted - up, {name: why.get(name, "no target") for name in wanted - up}


def test_every_rule_is_loaded_and_evaluates(platform, prometheus):
    """What promtool cannot see: labels of real series that do not fit one another."""
    ours = {
        rule.get("alert") or rule["record"]
        for file in RULES.glob("*.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    }
    loaded = {}
    for _ in wait(SECONDS, 5):
        groups = prometheus("/rules")["groups"]
        loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
        if ours <= set(loaded) and all(rule["health"] != "unknown" for rule in loaded.values()):
            break
    assert not ours - set(loaded)
    failed = {name: one.get("lastError") for name, one in loaded.items() if one["health"] != "ok"}
    assert not failed
    assert loaded["Watchdog"]["state"] == "firing"


@pytest.fixture(scope="module")
def champion(platform):
    """The model that the pipeline released: its name, its version, and rows that it knows."""
    project = Project.load(ROOT / "project.yaml")
    with steps_environment(platform):
        found = Registry(project).champion()
        if found is None:
            pytest.skip("no model is released: run test_end_to_end first")
        rows = read_json(found.package / "reference.json")["rows"]
    columns = rows.values()
    instances = [dict(zip(rows, row, strict=True)) for row in zip(*columns, strict=True)]
    return project.contract.name, str(found.version), instances[:1]


def test_requests_to_the_released_model_are_counted(platform, prometheus, record, champion):
    """By the ServiceMonitor that the release step made, and nothing else."""
    name, version, instances = champion
    assert platform.one("servicemonitors.monitoring.coreos.com", name, "models")
    isvc = f"{name}-v{version}"
    series = f'namespace="models",serving_kserve_io_inferenceservice="{isvc}"'
    target = f"up{{{series}}}"
    for _ in wait(SECONDS, 5):
        if number(prometheus, f"min({target})") == 1:
            break
    assert {labels["component"] for labels, up in values(prometheus, target) if up} == {"predictor"}

    answered = f'{series},model="{name}",protocol="v1",code="200"'
    count = f"sum(slipway_requests_total{{{answered}}}) or vector(0)"
    time.sleep(35)  # what was asked before this test is counted by then: two scrapes
    before = number(prometheus, count)
    with platform.forward("gateway", "traefik", 80) as address:
        for _ in range(REQUESTS):
            answer = httpx.post(
                f"http://{address}/v1/models/{name}:predict",
                json={"instances": instances},
                headers={"host": f"{name}.{record['domain']}"},
                trust_env=False,
                timeout=15,
            )
            assert answer.status_code == 200, answer.text
    now = before
    for _ in wait(SECONDS, 5):
        now = number(prometheus, count)
        if now >= before + REQUESTS:
            break
    assert now >= before + REQUESTS, f"{now} of {before + REQUESTS} are counted"

    # The rules of alerts and dashboards see the same series.
    rate = f'model:slipway_requests:rate5m{{namespace="models",model="{name}"}}'
    for _ in wait(90, 5):
        if (number(prometheus, rate) or 0) > 0:
            break
    assert number(prometheus, rate) > 0
    for objective in ("latency:seconds", "availability:ratio", "missing:ratio"):
        assert number(prometheus, f'slipway:objective_{objective}{{model="{name}"}}'), objective
