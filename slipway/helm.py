"""The one way in which Helm is called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from slipway.errors import Fault, UserError

SECONDS = 120
MODELS_DRIVER = "configmap"
"""Where Helm keeps its records of models: reading Secrets would open the stores to whoever
releases."""


class HelmError(Fault):
    """Helm failed; the text is what it said."""


def helm(
    *args: str, timeout: float = SECONDS, driver: str = "secret", cwd: Path | None = None
) -> str:
    """What the command prints; `driver` is where Helm keeps its records."""
    try:
        done = subprocess.run(
            ["helm", *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, "HELM_DRIVER": driver},
        )
    except FileNotFoundError:
        raise UserError("helm is not on PATH.", "Run `slipway doctor`, or install it.") from None
    except subprocess.TimeoutExpired:
        raise HelmError(f"no answer in {timeout:g} s: helm {' '.join(args)}") from None
    if done.returncode:
        raise HelmError(done.stderr.strip() or f"helm {' '.join(args)} failed")
    return done.stdout
