"""A folder for clusters without internet: whole, or one sentence."""

import json

import pytest

from ops import bundle
from ops.cluster import Cluster
from ops.platform import Platform
from slipway.errors import Fault, UserError

NAME = "docker.io/valkey/valkey:8.1"


@pytest.fixture
def crane(tmp_path, monkeypatch):
    """A `crane` on PATH: notes how it is called, then does these lines."""
    (tmp_path / "bin").mkdir()
    calls = tmp_path / "calls"

    def write(*lines):
        file = tmp_path / "bin" / "crane"
        file.write_text("\n".join(["#!/bin/sh", f'echo "$*" >> {calls}', *lines, ""]))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        return lambda: calls.read_text().splitlines()

    return write


@pytest.fixture
def platform(tmp_path, monkeypatch):
    """The laptop's, with one image, and no charts of others to fetch."""
    images = tmp_path / "images.json"
    images.write_text(json.dumps({"data": {"name": "ghcr.io/x/data", "tag": "1", "digest": ""}}))
    monkeypatch.setattr(bundle, "images_file", lambda bundle: images)
    monkeypatch.setattr(bundle, "write_image_values", lambda *of: json.loads(images.read_text()))
    monkeypatch.setattr(bundle, "render_all", lambda *of: {})
    monkeypatch.setattr(bundle, "locked", lambda profile: [NAME])
    monkeypatch.setattr(bundle.helm, "fetch_vendors", lambda wanted: [])
    monkeypatch.setattr(bundle.helm, "build_dependencies", lambda charts: None)
    loaded = Platform.load("laptop")
    return Platform("laptop", None, loaded.facts, (), loaded.components), images


def test_images_that_no_registry_has_are_told_before_anything_is_copied(crane, platform, tmp_path):
    crane()
    with pytest.raises(UserError, match=r"images data were built and not pushed.*PUSH=1"):
        bundle.make(platform[0], tmp_path / "b", print)
    assert not (tmp_path / "b").exists()


def test_a_bundle_that_was_interrupted_goes_on_and_is_no_bundle_before(crane, platform, tmp_path):
    made, images = platform
    images.write_text(
        json.dumps({"data": {"name": "ghcr.io/x/data", "tag": "1", "digest": "sha256:1"}})
    )
    calls = crane('case "$3" in *data*) echo "first" >&2; echo "no such host" >&2; exit 1;; esac',
                  'mkdir "$4"; echo x > "$4/index.json"')  # fmt: skip
    folder = tmp_path / "b"
    with pytest.raises(Fault, match=r"ghcr.io/x/data@sha256:1 .*failed: no such host\. Check"):
        bundle.make(made, folder, print)
    with pytest.raises(UserError, match="is no bundle"):
        bundle.check(folder, "laptop")
    crane('mkdir "$4"; echo x > "$4/index.json"')
    bundle.make(made, folder, print, "127.0.0.1:5000")
    bundle.check(folder, "laptop")
    assert [call.split()[2] for call in calls()] == [
        NAME,
        "ghcr.io/x/data@sha256:1",
        "127.0.0.1:5000/ghcr.io/x/data@sha256:1",
    ]
    bundle.use(folder, Cluster("team"), print, "mirror:5000")
    assert [call.split()[2] for call in calls()[3:]] == [
        f"mirror:5000/{NAME}",
        "mirror:5000/ghcr.io/x/data:1",
    ]


def test_without_crane_the_mend_is_told(platform, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"crane is not on PATH.*Install it: https://"):
        bundle.make(platform[0], tmp_path / "b", print)
