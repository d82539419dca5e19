"""A deploy ends before anything is touched, or as soon as it is known that it cannot succeed."""

import subprocess

import pytest

from ops import deploy, helm
from ops.health import Problem
from ops.platform import Platform
from slipway.errors import UserError


class Cluster:
    context = "unit"


def test_a_release_that_does_not_exist_is_named_before_anything_is_done():
    with pytest.raises(UserError, match=r"no release is called kpf.*Known are .*kfp"):
        deploy.deploy(Cluster(), Platform.load("laptop"), print, deploy.Times(), only=("kpf",))


def test_what_will_not_mend_itself_ends_the_deploy_and_the_helm_at_work(monkeypatch, tmp_path):
    ours = subprocess.Popen(["sleep", "60"], start_new_session=True)

    class Watch:
        lost = None
        last = ()
        stuck = Problem("Deployment", "kubeflow", "ml-pipeline", "cannot be pulled.")

        def __init__(self, *of):
            pass

        def start(self):
            pass

        stop = start

    freed = []
    monkeypatch.setattr(deploy, "Watch", Watch)
    monkeypatch.setattr(deploy, "state_folder", lambda context: tmp_path)
    monkeypatch.setattr(helm, "sync", lambda *of: ours)
    monkeypatch.setattr(helm, "mend_pending", lambda cluster, releases: freed.append(releases))
    platform = Platform.load("laptop")
    with pytest.raises(deploy.DeployError, match=r"ml-pipeline.*cannot be pulled.*not mend itself"):
        deploy._sync(Cluster(), platform, print, lambda: None, ())
    assert ours.poll() is not None, "Helm goes on behind our back"
    assert freed == [platform.releases]


CHART = {"name": "kserve", "version": "1.0", "sha256": ""}
SUM = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path):
    file = tmp_path / "kserve-1.0.tgz"
    file.write_text("hello")
    helm._check_sum({**CHART, "sha256": SUM}, file, tmp_path)
    file.write_text("hello!")
    with pytest.raises(UserError, match=f"kserve 1.0 has the SHA-256 .*, not {SUM}"):
        helm._check_sum({**CHART, "sha256": SUM}, file, tmp_path)


def test_a_package_without_a_pin_must_stay_what_it_was_at_first(tmp_path):
    file = tmp_path / "kserve-1.0.tgz"
    file.write_text("hello")
    helm._check_sum(CHART, file, tmp_path)
    helm._check_sum(CHART, file, tmp_path)
    file.write_text("hello!")
    with pytest.raises(UserError, match=f"not {SUM}"):
        helm._check_sum(CHART, file, tmp_path)
