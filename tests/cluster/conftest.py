"""The cluster that these tests run on: the context SLIPWAY_TEST_CONTEXT of the kubeconfig.

They install, kill pods and uninstall, so nothing but that variable, not even a KUBECONFIG, makes
them run. SLIPWAY_TEST_VALUES may name a folder of values that this cluster needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ops.cluster import Cluster, connect
from ops.deploy import RECORD, SYSTEM
from ops.platform import merged
from slipway.errors import UserError

ROOT = Path(__file__).parents[2]
ORDER = ("test_end_to_end", "", "test_bad_input", "test_backup", "test_down")
"""From nothing to everything, and back; the empty name is all the others."""


def pytest_collection_modifyitems(items):
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: _place(item.path.stem) if item in ours else -1)


def _place(name: str) -> int:
    return ORDER.index(name if name in ORDER else "")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that was named. Skips where none was; one that does not answer is a failure."""
    if not (context := os.environ.get("SLIPWAY_TEST_CONTEXT")):
        pytest.skip("no cluster: `make test-cluster CONTEXT=NAME` runs this")
    try:
        return connect(context)
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def platform(cluster) -> Cluster:
    """A cluster on which `make deploy` has run."""
    if not cluster.one("configmap", RECORD, SYSTEM):
        pytest.skip("the platform is not deployed: run `make deploy`")
    return cluster


COMMAND = (sys.executable, "-c", "from slipway.cli import main; main()")
"""`slipway` of this tree, whatever an environment has installed."""


@pytest.fixture(scope="session")
def slipway(cluster) -> Callable[..., subprocess.CompletedProcess]:
    """Runs `slipway ARGUMENTS` on the cluster, with the values that it needs."""

    def run(*arguments, values=None, seconds=900, **environment):
        given = values or os.environ.get("SLIPWAY_TEST_VALUES", "")
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT,
            env={**os.environ, "CONTEXT": cluster.context, "VALUES": str(given), **environment},
        )

    return run


@pytest.fixture(scope="session")
def pods(cluster):
    """Pods that stay, by name: uid and restarts of each container."""

    def found(*namespaces):
        return {
            f"{one['metadata']['namespace']}/{one['metadata']['name']}": (
                one["metadata"]["uid"],
                [c["restartCount"] for c in one["status"].get("containerStatuses", [])],
            )
            for one in cluster.get("pods")
            if one["status"]["phase"] == "Running"
            and not one["metadata"].get("deletionTimestamp")
            and (not namespaces or one["metadata"]["namespace"] in namespaces)
        }

    return found


@pytest.fixture(scope="session")
def record(platform) -> dict:
    """What the last deploy wrote of itself."""
    return json.loads(platform.one("configmap", RECORD, SYSTEM)["data"]["platform.json"])


@pytest.fixture
def values(tmp_path):
    """A folder of values: this cluster's own, and one file changed."""

    given = os.environ.get("SLIPWAY_TEST_VALUES", "")

    def write(name, value):
        for file in Path(given).glob("*.yaml") if given else ():
            (tmp_path / file.name).write_text(file.read_text())
        file = tmp_path / f"{name}.yaml"
        known = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump(merged(known, value)))
        return tmp_path

    return write
