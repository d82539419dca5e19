"""An upgrade from the last release goes through, and loses nothing."""

import copy

import pytest

from tests.charts import upgrade
from tests.charts.render import profiles
from tests.charts.test_rules import SOUND, changed

PREVIOUS = upgrade.previous()
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
STATEFUL = copy.deepcopy(SOUND) | {"kind": "StatefulSet"}
STATEFUL["spec"] |= {"serviceName": "app", "volumeClaimTemplates": [CLAIM]}


@pytest.mark.parametrize("profile", profiles())
def test_the_upgrade_from_the_last_release_goes_through(profile):
    now = upgrade.of_profile(profile)
    assert PREVIOUS, "no release is kept: run `make release-charts VERSION=…`"
    for release, old in PREVIOUS[profile].items():
        assert release in now, f"{release} is not installed any more"
        assert not list(upgrade.broken(old, now[release]))


def difference(old, new):
    both = [upgrade.fixed(one, "here") for one in (old, new)]
    return list(upgrade.broken(*both))


@pytest.mark.parametrize(
    ("path", "value", "fails"),
    [
        ("spec.selector.matchLabels", {"app": "other"}, True),
        ("spec.serviceName", "other", True),
        ("spec.volumeClaimTemplates.0.spec.resources.requests.storage", "2Gi", True),
        ("spec.volumeClaimTemplates.0.metadata.labels", {"helm.sh/chart": "x"}, False),
        ("spec.replicas", 3, False),
        ("spec.template.metadata.labels.more", "yes", False),
    ],
)
def test_fields_that_nobody_may_change_are_watched(path, value, fails):
    found = difference([STATEFUL], [changed(path, value, STATEFUL)])
    assert bool(found) is fails, found


def test_what_holds_data_must_stay():
    assert "is gone" in difference([STATEFUL], [])[0]
    assert not difference([SOUND], [])


def test_a_job_of_a_hook_may_change_and_another_may_not():
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"containers": []}}},
    }
    later = changed("spec.template.spec.containers", [{"name": "x"}], job)
    assert difference([job], [later])
    hook = {"metadata": {"name": "j", "annotations": {"helm.sh/hook": "post-install"}}}
    assert not difference([job | hook], [later | hook])


def test_the_newest_release_counts(tmp_path, monkeypatch):
    for version in ("0.9.0", "0.10.0", "0.2.1"):
        (tmp_path / f"{version}.yaml").write_text("{}")
    monkeypatch.setattr(upgrade, "FOLDER", tmp_path)
    assert upgrade.newest().stem == "0.10.0"
