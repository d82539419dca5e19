"""What every profile installs, and every chart of ours with everything on, keeps the rules.

Broken, one of them costs a user an install that stops half-way, a pod that is refused, evicted or
never found, or a secret that everybody can read.
"""

import json
import re

import pytest

from ops import checks
from ops.platform import Platform
from tests.charts import rules
from tests.charts.budget import a_model
from tests.charts.network import selects
from tests.charts.render import (
    CHARTS,
    load,
    managed,
    profile_of,
    profiles,
    releases,
    render,
    template,
)
from tests.charts.shape import shaped

OURS = sorted(path.parent.name for path in CHARTS.glob("*/Chart.yaml"))
INSTALLED = [name for name in OURS if load(CHARTS / name / "Chart.yaml")["type"] != "library"]
RELEASES = releases()
# Of others we hold what decides whether they run; their selectors and probes are their own.
OF_ALL = (shaped, rules.restricted, rules.bounded, rules.secretless)
OF_OURS = (*OF_ALL, rules.selected, rules.probed)
PRIVILEGED = {
    "nvidia-device-plugin": "it hands the node's devices to the kubelet, through its folders",
}


def broken(objects, which):
    return [sentence for rule in which for sentence in rule(objects)]


@pytest.mark.parametrize(
    ("profile", "release"), [(one, name) for one in profiles() for name in managed(one)]
)
def test_a_release_of_a_profile_keeps_the_rules(profile, release):
    objects = render(release, profile)
    which = list(OF_OURS if "chart" in RELEASES[release] else OF_ALL)
    if release in PRIVILEGED:
        which.remove(rules.restricted)
        assert broken(objects, [rules.restricted]), f"{release} needs no privileges any more"
    assert not broken(objects, which)


@pytest.mark.parametrize("chart", INSTALLED)
def test_a_chart_with_everything_on_keeps_the_rules(chart):
    objects = template(chart, files=[CHARTS / chart / "ci" / "maximal-values.yaml"])
    assert not broken(objects, OF_OURS)


@pytest.mark.parametrize("chart", INSTALLED)
def test_images_are_named_in_one_way_so_that_a_mirror_or_digest_reaches_all(chart):
    for file in (CHARTS / chart / "templates").rglob("*.yaml"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if re.match(r"\s*(- )?image:", line):
                assert 'include "common.image"' in line, f"{file}:{number}: {line.strip()}"


@pytest.mark.parametrize("profile", profiles())
def test_no_two_releases_of_a_profile_make_the_same_object(profile):
    owners = {}
    for release in managed(profile):
        for item in render(release, profile):
            meta = item["metadata"]
            place = meta.get("namespace", RELEASES[release]["namespace"])
            key = (item["apiVersion"], item["kind"], place, meta["name"])
            assert owners.setdefault(key, release) == release, f"{key}: also in {owners[key]}"


def before(release):
    """The releases that are up when this one starts."""
    needs = RELEASES[release].get("needs", ())
    return set(needs).union(*(before(name) for name in needs))


@pytest.mark.parametrize("profile", profiles())
def test_a_release_waits_for_those_whose_kinds_it_makes_objects_of(profile):
    rendered = {release: render(release, profile) for release in managed(profile)}
    brought = {
        (item["spec"]["group"], item["spec"]["names"]["kind"]): release
        for release, objects in rendered.items()
        for item in objects
        if item["kind"] == "CustomResourceDefinition"
    }
    assert ("monitoring.coreos.com", "ServiceMonitor") in brought
    lacking = {
        f"{release} makes a {item['kind']}, and does not need {maker}"
        for release, objects in rendered.items()
        for item in objects
        if (maker := brought.get((item["apiVersion"].rpartition("/")[0], item["kind"]), release))
        not in {release, *before(release)}
    }
    assert not lacking


@pytest.mark.parametrize("profile", profiles())
def test_a_release_waits_for_the_webhooks_that_its_objects_must_pass(profile):
    rendered = {release: render(release, profile) for release in managed(profile)}
    webhooks = [
        (
            maker,
            webhook,
            {(group, name) for group in told["apiGroups"] for name in told["resources"]},
        )
        for maker, objects in rendered.items()
        for item in objects
        for webhook in item.get("webhooks") or ()
        for told in webhook["rules"]
        if webhook["failurePolicy"] == "Fail" and not webhook.get("objectSelector")
    ]
    for release, objects in rendered.items():
        for item in objects:
            group = item["apiVersion"].rpartition("/")[0]
            asked = {(group, f"{item['kind'].lower()}s"), (group, "*/*")}
            place = item["metadata"].get("namespace", RELEASES[release]["namespace"])
            for maker, webhook, held in webhooks:
                if held & asked and selects(
                    webhook.get("namespaceSelector") or {}, {"kubernetes.io/metadata.name": place}
                ):
                    assert maker in {release, *before(release)}, (
                        f"{release} makes the {item['kind']} {item['metadata']['name']}, and does "
                        f"not need {maker}, whose webhook {webhook['name']} must take it"
                    )


def test_whoever_brings_the_stores_is_asked_for_every_address_of_ours():
    named = {}
    for release, told in RELEASES.items():
        if "chart" in told and release != "storage":
            for place, text in rules.texts(load(CHARTS / told["chart"] / "values.yaml")):
                if re.search(r"\w\.storage\b", text):
                    named.setdefault(release, []).append(place)
    assert named == load(CHARTS / "releases.yaml")["components"]["storage"]["values"]


@pytest.mark.parametrize("profile", profiles())
def test_every_host_of_a_profile_is_under_its_domain(profile):
    objects = {release: render(release, profile) for release in managed(profile)}
    routes = [one for made in objects.values() for one in made if one["kind"] == "HTTPRoute"]
    assert len(routes) >= 3
    checks.hosts(Platform.load(profile), {**objects, "a model": a_model(profile)})
    [config] = (
        one for one in objects["kserve"] if one["metadata"]["name"] == "inferenceservice-config"
    )
    domain = profile_of(profile)["domain"]
    assert json.loads(config["data"]["ingress"])["ingressDomain"] == domain
