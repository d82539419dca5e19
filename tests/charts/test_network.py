"""What the charts connect, their network policies let through: else an install works on a laptop
whose network ignores policies, and stands still on a cluster that has them."""

import copy

import pytest

from tests.charts.budget import a_model
from tests.charts.network import OUTSIDE, Connection, End, Network
from tests.charts.render import fetched, managed, profiles, releases, render
from tests.charts.test_rules import SERVICE, SOUND


def installed(profile):
    objects = []
    for release in fetched(profile):
        for item in render(release, profile):
            item["metadata"].setdefault("namespace", releases()[release]["namespace"])
            objects.append(item)
    for item in a_model(profile):
        item["metadata"].setdefault("namespace", "models")
        objects.append(item)
    return objects


@pytest.fixture(scope="module", params=profiles())
def profile(request):
    return request.param


@pytest.fixture(scope="module")
def network(profile):
    return Network(installed(profile))


def test_every_address_leads_somewhere_and_every_connection_is_let_through(network):
    assert not sorted(set(network.problems()))


def test_the_connections_that_matter_are_among_those_looked_at(network, profile):
    if lacking := set(managed(profile)) - set(fetched(profile)):
        pytest.skip(f"charts of {', '.join(sorted(lacking))} were not fetched: run `make charts`")
    found = {
        (one.source.namespace, one.target.namespace, one.port)
        for one in network.connections()
        if isinstance(one, Connection)
    }
    assert found >= {
        ("kubeflow", "storage", 3306),
        ("kubeflow", "storage", 9000),
        ("models", "storage", 6379),
        ("gateway", "models", 8080),
        ("gateway", "models", 8081),
        ("monitoring", "models", 8080),
        ("", "kserve", 9443),
        ("monitoring", "kubeflow", 8888),
    }


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (End("models"), End("kubeflow"), 8888),
        (End("models"), End("mlflow"), 5000),
        (End("kubeflow"), End("slipway-system"), 443),
        (End("gateway"), End("storage"), 9000),
        (End("mlflow"), End("storage", {"app.kubernetes.io/component": "valkey"}), 6379),
        (OUTSIDE, End("storage", {"app.kubernetes.io/component": "mariadb"}), 3306),
        (End("elsewhere"), End("mlflow"), 5000),
    ],
)
def test_who_has_no_business_there_is_kept_out(network, source, target, port):
    assert not network.permits(Connection(source, target, port, ""))


def policy(kind="Ingress", **rule):
    side = {"Ingress": "ingress", "Egress": "egress"}[kind]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "here"},
        "spec": {"podSelector": {}, "policyTypes": [kind], side: [rule] if rule else []},
    }


def client(text):
    item = copy.deepcopy(SOUND)
    item["metadata"] |= {"name": "client", "namespace": "there"}
    pod = item["spec"]["template"]
    pod["metadata"]["labels"] = {"app": "client"}
    pod["spec"]["containers"][0]["args"] = [text]
    return item


FROM_THERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "there"}}}


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ([], None),
        ([policy()], "there may not reach here:8080"),
        ([policy(**{"from": [FROM_THERE]})], None),
        ([policy(**{"from": [FROM_THERE], "ports": [{"port": 8080}]})], None),
        ([policy(**{"from": [FROM_THERE], "ports": [{"port": 80}]})], "may not reach"),
        ([policy(**{"from": [{"podSelector": {}}]})], "may not reach"),
        (
            [policy(**{"from": [FROM_THERE | {"podSelector": {"matchLabels": {"app": "x"}}}]})],
            "may not reach",
        ),
        ([policy(**{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})], "may not reach"),
        ([policy("Egress")], None),
    ],
)
def test_policies_are_applied_as_kubernetes_does(policies, says):
    objects = [SOUND, SERVICE, client("http://app.here:80/x"), *policies]
    problems = list(Network(objects).problems())
    assert bool(problems) == bool(says), problems
    assert not says or says in problems[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://gone.here:80", "gone.here is no service"),
        ("http://app.here:81", "app.here has no port 81"),
        ("app.here.svc.cluster.local:80", None),
        ("my.app.here:81", None),
    ],
)
def test_an_address_that_leads_nowhere_is_named(text, says):
    problems = list(Network([SOUND, SERVICE, client(text)]).problems())
    assert (says in problems[0]) if says else not problems
