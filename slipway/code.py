"""Which code made a result."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWING = {"cli", "report"}


def code_version() -> str:
    """The version of the source that pipeline steps run; cached steps are keyed by it."""
    return content_hash(("slipway", "components", "feature_repo"))


@cache
def content_hash(packages: tuple[str, ...]) -> str:
    """12 hex digits over the source of `packages`, but for the command line and the report.

    A hash of the content, not the commit: an edit that is not committed is another version, and a
    commit that touches only the README is not.
    """
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted((ROOT / package).rglob("*")):
            name = file.relative_to(ROOT)
            if file.suffix in {".py", ".yaml"} and not SHOWING & set(name.parts):
                digest.update(name.as_posix().encode() + b"\0")
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str:
    """The git commit, from `SLIPWAY_COMMIT` in an image or from the checkout; else `unknown`."""
    if given := os.environ.get("SLIPWAY_COMMIT"):
        return given
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
