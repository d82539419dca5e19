"""Environments of the others' servers, under .bench/, made by uv from requirements/*.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from slipway.files import write_text

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench"
REQUIREMENTS = Path(__file__).parent / "requirements"
# As `make setup`: uv sees what pip is configured to see.
INSTALL = """
. make/uv_env.sh
"$uv" venv --quiet --clear --python "$0" "$1"
"$uv" pip install --quiet --index-strategy unsafe-best-match --python "$1/bin/python" -r "$2"
"""


class NotInstalled(Exception):
    """The message is the end of what the installer says."""


def environment(name: str) -> Path:
    """The folder of the environment, installed if it is not what its requirements say. Raises
    `NotInstalled`."""
    folder, requirements = HOME / name, REQUIREMENTS / f"{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / "requirements.sha256"
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    write_text(HOME / ".gitignore", "*\n")
    done = subprocess.run(
        ["bash", "-euc", INSTALL, _python(), str(folder), str(requirements)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalled(" ".join(done.stderr.split())[-300:])
    write_text(stamp, wanted)
    return folder


def _python() -> str:
    """The Python that .venv was made of: an environment does not stand on another."""
    return str(Path(sys.executable).resolve())
