"""Ingest: what the sources hold now, as an immutable data version."""

from __future__ import annotations

from slipway.data import DataStore, SourceData
from slipway.sources import public_uri, read_source
from slipway.step import Step


def ingest(step: Step, as_of: str) -> tuple[str, str]:
    """Read every source of the contract and store what they hold.

    Returns the data version and the moment of the run in UTC: `as_of`, else the contract's, else
    now. Equal content is the version that is there already. Raises `UserError` for a source that
    cannot be read; nothing is stored then.
    """
    contract = step.project.contract
    moment = contract.resolve_as_of(as_of)
    read = {}
    for name, source in contract.sources.items():
        table = read_source(name, source, step.project.root, contract.timezone, step.say)
        read[name] = SourceData(table, public_uri(source), source.key)
        step.say(f"{name}: {table.num_rows:,} rows from {public_uri(source)}")
    manifest, existed = DataStore(step.project.home.data_uri).write(read)
    step.facts.update(
        data_version=manifest.id,
        created=manifest.created,
        reused=existed,
        sources=[
            {
                "name": source.name,
                "uri": source.uri,
                "rows": source.rows,
                "columns": len(source.columns),
                "bytes": source.bytes,
                "sha256": source.sha256,
            }
            for source in manifest.sources
        ],
    )
    rows = sum(source.rows for source in manifest.sources)
    known = "is there already" if existed else "stored"
    step.say(f"data version {manifest.id} {known}: {len(read)} sources, {rows:,} rows")
    return manifest.id, moment.isoformat()
