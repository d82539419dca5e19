"""The helmfile says what `slipway deploy` checked; each part of it works on the cluster named."""

import os
import shutil
import subprocess

import pytest
import yaml

from ops.platform import Platform
from tests.charts.render import CHARTS, profiles

CONTEXT = "a-cluster"


@pytest.fixture(params=profiles())
def built(request):
    if not shutil.which("helmfile"):
        pytest.skip("no helmfile: `slipway deploy` downloads it, or put it on the PATH")
    done = subprocess.run(
        ["helmfile", "--environment", request.param, "build"],
        cwd=CHARTS,
        env={**os.environ, "CONTEXT": CONTEXT, "VALUES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return request.param, yaml.safe_load(done.stdout.split("---\n", 1)[1])


def test_releases_are_those_of_the_list_with_their_order_and_patience(built):
    profile, said = built
    listed = {one.name: one for one in Platform.load(profile).releases}
    assert {one["name"] for one in said["releases"]} == set(listed)
    for one in said["releases"]:
        release = listed[one["name"]]
        assert (one["namespace"], one["timeout"]) == (release.namespace, release.timeout)
        needs = {f"{CONTEXT}/{listed[n].namespace}/{n}" for n in release.needs if n in listed}
        assert set(one.get("needs", ())) == needs


def test_releases_and_hooks_work_on_the_cluster_that_was_named(built):
    """A hook does not see `--kube-context`, and must not choose a cluster by itself."""
    profile, said = built
    assert {one["kubeContext"] for one in said["releases"]} == {CONTEXT}
    hooks = [hook for one in said["releases"] for hook in one.get("hooks", ())]
    assert bool(hooks) == (profile == "laptop")
    for hook in hooks:
        assert hook["args"][-2:] == ["--context", CONTEXT]
