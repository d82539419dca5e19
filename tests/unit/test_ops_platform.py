"""Profiles and folders of values: what fits together is resolved, what does not is one sentence."""

import shutil

import pytest
import yaml

from ops import platform as platforms
from ops.platform import PROFILES, Platform, Release, image_values, merged
from slipway.errors import UserError


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "values"
    folder.mkdir()
    return folder


def write(folder, name, value):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_whole_and_in_order(profile):
    platform = Platform.load(profile)
    names = [release.name for release in platform.releases]
    assert names[0] == "foundation"
    for release in platform.releases:
        for need in release.needs:
            if need in names:
                assert names.index(need) < names.index(release.name)


def test_each_release_names_a_chart_that_is_there():
    vendors = platforms.vendors()
    for profile in PROFILES:
        for release in Platform.load(profile).releases:
            assert bool(release.chart) != bool(release.vendor)
            assert not release.vendor or release.vendor in vendors
            assert not release.chart or (platforms.CHARTS / release.chart / "Chart.yaml").exists()


def test_an_unmanaged_component_takes_its_releases_with_it(mine):
    write(mine, "profile", {"components": {"monitoring": {"managed": False}}})
    platform = Platform.load("laptop", mine)
    assert "monitoring" not in {release.name for release in platform.releases}
    assert "monitoring" in platform.unmanaged
    assert "prometheus-operator" in {release.name for release in platform.releases}


def test_what_needs_a_store_that_is_not_managed_must_be_told_of_another(
    mine, tmp_path, monkeypatch
):
    charts = tmp_path / "charts"
    shutil.copytree(platforms.CHARTS, charts, ignore=shutil.ignore_patterns("charts", "templates"))
    listed = yaml.safe_load((charts / "releases.yaml").read_text())
    listed["components"]["storage"]["values"] = {"kfp": ["database.host"]}
    write(charts, "releases", listed)
    monkeypatch.setattr(platforms, "CHARTS", charts)
    write(mine, "profile", {"components": {"storage": {"managed": False}}})
    with pytest.raises(UserError, match=r"kfp is not told .* database\.host.*kfp\.yaml of your"):
        Platform.load("laptop", mine)
    for host in ("db.example.com", ""):  # said to be empty: the chart judges it
        write(mine, "kfp", {"database": {"host": host}})
        assert "storage" not in {release.name for release in Platform.load("laptop", mine).releases}


def test_what_all_profiles_say_of_our_mlflow_does_not_stand_for_another(mine):
    write(mine, "profile", {"components": {"mlflow": {"managed": False}}})
    with pytest.raises(UserError, match=r"kfp is not told .* steps\.env\.MLFLOW_TRACKING_URI"):
        Platform.load("laptop", mine)
    write(mine, "kfp", {"steps": {"env": {"MLFLOW_TRACKING_URI": "https://mlflow.example.com"}}})
    assert "mlflow" not in {release.name for release in Platform.load("laptop", mine).releases}


@pytest.mark.parametrize(
    ("file", "value", "sentence"),
    [
        ("kpf", {}, "no release of this name"),
        ("profile", {"components": {"kubflow": {"managed": True}}}, "no component kubflow"),
        ("profile", {"components": {"kfp": {"managed": "yes"}}}, r"components\.kfp is not underst"),
        ("profile", {"components": {"kfp": True}}, r"components\.kfp is not understood"),
        ("kfp", ["a"], "this is a list, not"),
    ],
)
def test_a_mistake_in_the_folder_is_one_sentence_that_names_the_file(mine, file, value, sentence):
    write(mine, file, value)
    with pytest.raises(UserError, match=sentence) as caught:
        Platform.load("laptop", mine)
    assert str(mine) in str(caught.value)
    assert caught.value.fix or "not `key: value`" in str(caught.value)


def test_yaml_that_is_none_names_file_and_line(mine):
    (mine / "kfp.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=r"kfp\.yaml is no YAML: .*line 2"):
        Platform.load("laptop", mine)


def test_a_profile_or_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"no profile 'lapdog'.*laptop, team, production"):
        Platform.load("lapdog")
    with pytest.raises(UserError, match="is no folder"):
        Platform.load("laptop", tmp_path / "nothing")


def test_later_values_win_key_by_key(mine):
    assert merged({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}
    write(mine, "mlflow", {"resources": {"requests": {"cpu": "1m"}}})
    values = Platform.load("laptop", mine).given("mlflow")
    assert values["resources"]["requests"]["cpu"] == "1m"


def test_images_are_put_where_the_release_has_them():
    release = Release("kfp", "kubeflow", "kfp", 1, images={"a.b": "tools", "c": "train"})
    built = {
        "tools": {"name": "ghcr.io/x/tools", "tag": "1", "digest": "sha256:1", "bytes": 3},
        "train": {"name": "ghcr.io/x/train", "tag": "1", "digest": ""},
    }
    assert image_values(release, built) == {
        "a": {"b": {"repository": "ghcr.io/x/tools", "tag": "1", "digest": "sha256:1"}},
        "c": {"repository": "ghcr.io/x/train", "tag": "1"},
    }
    with pytest.raises(UserError, match=r"kfp needs the image 'train'.*make images"):
        image_values(release, {"tools": built["tools"]})


def test_down_takes_also_what_another_profile_has_installed():
    """`make down` without PROFILE=team, after `make deploy PROFILE=team`."""
    laptop, team = Platform.load("laptop"), Platform.load("team")
    recorded = [release.name for release in team.releases]
    assert set(recorded) - {release.name for release in laptop.releases}
    names = [release.name for release in laptop.releases_with(recorded)]
    assert set(recorded) <= set(names)
    for release in laptop.releases_with(recorded):
        for need in release.needs:
            assert need not in names or names.index(need) < names.index(release.name)
    assert laptop.releases_with([]) == list(laptop.releases)
