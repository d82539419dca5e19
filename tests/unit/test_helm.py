"""Helm is called in one way, and whatever goes wrong with it is a sentence."""

import pytest

from slipway.errors import Fault, UserError
from slipway.helm import MODELS_DRIVER, HelmError, helm


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A `helm` on PATH that does what its lines say."""

    def write(*lines):
        file = tmp_path / "helm"
        file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return write


def test_its_words_come_back_and_records_lie_where_the_caller_says(program, tmp_path):
    program('echo "$HELM_DRIVER $PWD $*"')
    assert helm("list").startswith("secret ")
    assert helm("list", driver=MODELS_DRIVER, cwd=tmp_path) == f"configmap {tmp_path} list\n"


def test_what_helm_says_is_the_error(program):
    program("echo 'Error: release: not found' >&2", "exit 1")
    with pytest.raises(HelmError, match="release: not found"):
        helm("get", "values", "x")
    assert issubclass(HelmError, Fault)


def test_a_silent_failure_names_the_command(program):
    program("exit 1")
    with pytest.raises(HelmError, match="helm list failed"):
        helm("list")


def test_a_helm_that_hangs_is_told(program):
    program("exec sleep 20")
    with pytest.raises(HelmError, match=r"no answer in 0\.2 s: helm list"):
        helm("list", timeout=0.2)


def test_without_helm_the_mend_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"helm is not on PATH\. Run `slipway doctor`"):
        helm("list")
