"""What a profile asks of a cluster: more than it says, and it does not fit where it is said to."""

import copy

import pytest

from ops.fit import amount
from tests.charts import budget
from tests.charts.budget import Sum
from tests.charts.render import CHARTS, load, profiles
from tests.charts.test_rules import SOUND

BUDGETS = load(CHARTS / "budgets.yaml")


@pytest.mark.parametrize("profile", profiles())
def test_a_profile_keeps_its_budget(profile):
    asked = sum(budget.of_profile(profile).values(), Sum())
    allowed = BUDGETS[profile]
    for name in ("cpu", "memory", "limit", "volumes"):
        assert getattr(asked, name) <= amount(allowed[name]), name
    assert asked.pods <= allowed["pods"]
    assert len(asked.images) <= allowed["images"]


def test_the_table_says_what_the_charts_ask():
    found = budget.TABLE.search(budget.PAGE.read_text())
    assert found
    assert found[0] == found[1] + budget.table() + found[2], "run `make budget`"


def test_requests_limits_volumes_and_replicas_are_counted():
    item = copy.deepcopy(SOUND) | {"kind": "StatefulSet"}
    claim = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    item["spec"]["volumeClaimTemplates"] = [claim]
    own = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}} | claim
    found = budget.of([item, own])
    assert found == Sum(
        cpu=0.02,
        memory=64 * 2**20,
        limit=128 * 2**20,
        volumes=6 * 2**30,
        pods=2,
        images=frozenset({"ghcr.io/acme/app"}),
    )


def test_the_largest_init_container_counts_where_it_is_more():
    item = copy.deepcopy(SOUND)
    first = {"name": "first", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}
    item["spec"]["template"]["spec"]["initContainers"] = [first]
    found = budget.of([item])
    assert (found.cpu, found.memory) == (2, 64 * 2**20)


def test_what_the_operator_adds_counts():
    prometheus = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "metadata": {"name": "p"},
        "spec": {"image": "quay.io/a/b:1", "resources": {"requests": {"cpu": "30m"}}},
    }
    operator = copy.deepcopy(SOUND)
    [container] = operator["spec"]["template"]["spec"]["containers"]
    container["args"] = ["--config-reloader-cpu-request=1m", "--config-reloader-memory-limit=0"]
    found = budget.of([prometheus], budget._reloader([operator]))
    assert found.cpu == pytest.approx(0.031)
