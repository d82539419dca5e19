"""A real request, for people to paste and for `slipway score` to send."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from slipway.errors import UserError
from slipway.files import read_json
from slipway.project import Project
from slipway.schema import request_schema

ENDPOINT = "endpoint.json"
"""In the serving folder while an endpoint is up: its URL, model and version."""
LAST = "last.json"
"""In the pipelines folder: where the last local run left its training set and its package."""


def example_request(project: Project, package: Path) -> dict[str, Any]:
    """The newest row of the last run's test window, as a client would send it."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    last = project.home.pipelines / LAST
    if not last.exists():
        raise UserError(f"{last} does not exist.", "Run `make demo` first.")
    fields = [field.name for field in request_schema(read_json(package / "signature.json")).fields]
    rows = pq.read_table(
        Path(read_json(last)["training_set"]) / "training_set.parquet",
        columns=[*dict.fromkeys([*fields, "row_id"])],
        filters=[("window", "=", "test")],
    )
    newest = rows.filter(pc.equal(rows["row_id"], pc.max(rows["row_id"]))).to_pylist()[0]
    return {
        name: newest[name].isoformat() if isinstance(newest[name], datetime) else newest[name]
        for name in fields
    }
