"""What every profile installs, and every chart of ours with everything on, keeps the rules.

Broken, one of them costs a user an install that stops half-way, a pod that is refused, evicted or
never found, or a secret that everybody can read.
"""

import re

import pytest

from tests.charts import rules
from tests.charts.render import CHARTS, load, managed, profiles, releases, render, template
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
