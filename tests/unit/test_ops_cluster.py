"""Which cluster a command means: the one that is named, or our kind cluster, and no other."""

import json

import click
import pytest
from click.testing import CliRunner

from ops import helm, kind
from ops.__main__ import main
from ops.cluster import Cluster, connect
from ops.platform import Platform
from slipway.cli import cli
from slipway.errors import UserError
from tests.unit.test_cli import commands

KUBECTL = """#!/bin/sh
echo "kubectl $*" >> {calls}
case "$*" in
  "version --client") echo "Client Version: v1.34.3" ;;
  "config get-contexts"*) printf "{contexts}" ;;
  *readyz* | *patch*) echo ok ;;
  *) echo "Unable to connect to the server" >&2; exit 1 ;;
esac
"""
OTHERS = """#!/bin/sh
echo "$(basename $0) $*" >> {calls}
case "$(basename $0) $*" in
  "kind version") echo v0.32.0 ;;
  "kind get clusters") printf "{contexts}" | sed s/kind-// ;;
  "helm version --short") echo v3.22.0 ;;
  "helm list"*) cat $(dirname $0)/releases.json ;;
esac
"""


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """Programs that note how they are called, and a kubeconfig with these contexts."""
    calls = tmp_path / "calls"
    calls.touch()

    def write(*contexts):
        listed = "".join(f"{one}\\n" for one in contexts)
        programs = {"kubectl": KUBECTL, "helm": OTHERS, "kind": OTHERS, "docker": OTHERS}
        for name, text in programs.items():
            (tmp_path / name).write_text(text.format(calls=calls, contexts=listed))
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.delenv("CONTEXT", raising=False)
        return lambda: calls.read_text()

    return write


def test_our_kind_cluster_is_meant_where_none_is_named(kubeconfig):
    kubeconfig("production", "kind-slipway")
    assert connect("").context == "kind-slipway"
    assert connect("production").context == "production"


def test_the_only_context_is_not_taken_unless_it_is_named(kubeconfig):
    kubeconfig("production")
    with pytest.raises(UserError, match=r"no cluster was named.* CONTEXT=NAME.*: production\."):
        connect("")


def test_a_second_down_does_not_go_to_the_cluster_that_is_left(kubeconfig):
    """The first one deleted kind-slipway, and `production` is now the only context."""
    calls = kubeconfig("production")
    done = CliRunner().invoke(cli, ["down"])
    assert done.exit_code == 0, done.output
    assert "there is no kind cluster" in done.output
    assert "production" not in calls()
    assert "kubectl" not in calls()


@pytest.mark.parametrize("command", ["status", "restore --from x", "backup --to x", "runs list"])
def test_every_command_follows_the_rule(kubeconfig, command):
    kubeconfig("production")
    done = CliRunner().invoke(cli, command.split())
    assert done.exit_code == 2, done.output
    assert "no cluster was named, and the kubeconfig has no 'kind-slipway'" in done.output


def test_there_is_one_option_for_it_and_one_for_the_registry():
    helps = {}
    for path in commands(cli):
        command = cli
        for name in path:
            command = command.get_command(click.Context(command), name)
        for one in command.params:
            if one.name == "context":
                helps.setdefault(one.help, set()).add(path[0])
    assert {frozenset(some) for some in helps.values()} == {
        frozenset({"models", "rollback"}),
        frozenset({"deploy", "down", "status", "backup", "restore", "runs", "submit"}),
    }


def test_a_cluster_that_goes_away_is_a_sentence_and_exit_code_1(kubeconfig):
    kubeconfig("team")
    done = CliRunner().invoke(cli, ["status", "--context", "team"])
    assert done.exit_code == 1
    assert done.output == "Error: Unable to connect to the server\n"


def test_a_kind_cluster_and_another_context_do_not_go_together(kubeconfig):
    calls = kubeconfig("team")
    done = CliRunner().invoke(cli, ["deploy", "--kind", "--context", "team"])
    assert done.exit_code == 2
    assert "the context 'team' is named as well" in done.output
    assert not calls()


def test_the_engine_that_built_the_images_is_the_one_that_has_them(
    kubeconfig, monkeypatch, tmp_path
):
    kubeconfig()
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.delenv("ENGINE", raising=False)
    assert kind.engine() == "docker"
    monkeypatch.setenv("ENGINE", "podman")
    assert kind.engine() == "podman"
    (tmp_path / "podman").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match=r"podman does not answer\. Install podman and start it"):
        kind.engine()
    monkeypatch.setenv("ENGINE", "buildctl")
    assert kind.engine() == "docker"


def test_a_kind_cluster_that_is_there_is_taken_and_its_network_is_not_throttled(kubeconfig):
    calls = kubeconfig("kind-slipway")
    assert kind.create(print) == "kind-slipway"
    assert "kind export kubeconfig --name slipway" in calls()
    assert "kubectl --context kind-slipway patch daemonset kindnet" in calls()


def test_only_our_releases_are_freed_of_a_killed_helm(kubeconfig, tmp_path):
    """Somebody else's, that is being upgraded at this moment, keeps its record."""
    listed = [
        {"name": name, "namespace": space, "status": status, "revision": "3"}
        for name, space, status in (
            ("mlflow", "mlflow", "pending-upgrade"),
            ("kfp", "kubeflow", "deployed"),
            ("shop", "shop", "pending-upgrade"),
            ("mlflow", "another-team", "pending-install"),
        )
    ]
    (tmp_path / "releases.json").write_text(json.dumps(listed))
    calls = kubeconfig("team")
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\necho kubectl $* >> {tmp_path}/calls\n")
    assert helm.mend_pending(Cluster("team"), Platform.load("laptop").releases) == ["mlflow/mlflow"]
    deleted = [line for line in calls().splitlines() if "delete" in line]
    assert len(deleted) == 1
    assert "sh.helm.release.v1.mlflow.v3 --namespace mlflow" in deleted[0]


def test_a_job_of_ops_ends_in_a_sentence_as_well(kubeconfig, capsys):
    kubeconfig("team")
    assert main(["webhook-certificate", "--context", "team"]) == 1
    assert capsys.readouterr().err == "error: Unable to connect to the server\n"
    with pytest.raises(SystemExit):  # which cluster is never guessed
        main(["webhook-certificate"])
