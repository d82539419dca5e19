"""After the install nothing needs a network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.local, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
ALONE = ["unshare", "--user", "--map-root-user", "--net"]
"""A network namespace of its own, which holds a loopback device and no other."""
LOOPBACK_UP = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    flags = struct.pack("16sh", b"lo", 0x1)  # IFF_UP
    fcntl.ioctl(probe, 0x8914, flags)  # SIOCSIFFLAGS
"""
DEMO = "from slipway.cli import main; main()"


def alone_works() -> bool:
    if not shutil.which("unshare"):
        return False
    done = subprocess.run([*ALONE, sys.executable, "-c", LOOPBACK_UP], capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not alone_works(), reason="this system allows no network namespace (unshare)")
def test_the_whole_lifecycle_runs_where_there_is_no_network(tmp_path):
    project = shutil.copytree(
        ROOT / "examples" / "gapminder",
        tmp_path / "project",
        ignore=shutil.ignore_patterns(".slipway"),
    )
    done = subprocess.run(
        [
            *(*ALONE, sys.executable, "-c", LOOPBACK_UP + DEMO),
            *("demo", "--project", str(project / "project.yaml")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "passed every gate" in done.stdout
