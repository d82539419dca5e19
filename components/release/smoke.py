"""The proof before traffic: a version answers as it did when it was registered."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from slipway.errors import UserError
from slipway.files import read_json

TOLERANCE = 1e-6
SECONDS = 30
"""How long a fresh service may not be reachable yet."""


def reproduce(url: str, model: str, package: Path) -> float:
    """The largest difference of a server's answers to the package's reference predictions.

    Raises `UserError` for a server that refuses the rows or answers something else.
    """
    import httpx

    reference = read_json(package / "reference.json")
    names, columns = list(reference["rows"]), reference["rows"].values()
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    deadline = time.monotonic() + SECONDS
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while True:
            try:
                answer = client.post(f"/v1/models/{model}:predict", json={"instances": rows})
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{url} is not reachable: {error}") from None
            else:
                if answer.status_code not in (502, 503, 504) or time.monotonic() > deadline:
                    break
            time.sleep(0.5)
    if answer.status_code != 200:
        raise UserError(
            f"{url} refuses the package's own reference rows: {answer.status_code} {answer.text}",
            "Register the model again with this code.",
        )
    found = np.array(answer.json()["predictions"], np.float64)
    expected = np.array(reference["predictions"], np.float64)
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=TOLERANCE, atol=TOLERANCE
    ):
        raise UserError(
            f"{url} does not reproduce the package's reference predictions to {TOLERANCE}.",
            "Do not serve this package: train it again, or serve it with the code it was made by.",
        )
    return float(np.abs(found - expected).max())
