"""Every source of the contract, as one immutable data version."""

from __future__ import annotations

from slipway.step import Step


def ingest(step: Step) -> str:
    """Read the sources and store them; the same content again stores nothing. Returns its id.

    Raises `UserError` that names source, URI and fix for whatever cannot be read.
    """
    with step.importing():
        import pyarrow.csv
        import pyarrow.parquet  # noqa: F401 (half a second on a cold disk)

        from slipway.data import DataStore, SourceData
        from slipway.sources import public_uri, read_source

    project = step.project
    found = {}
    for name, source in project.contract.sources.items():
        step.say(f"reading {name}")
        rows = read_source(name, source, project.root, project.contract.timezone, step.say)
        found[name] = SourceData(rows, public_uri(source), source.key)
    manifest, reused = DataStore(project.home.data_uri).write(found)
    total = sum(source.rows for source in manifest.sources)
    step.say(
        f"data version {manifest.id} "
        + ("is there already: the content is the same" if reused else f"stored: {total:,} rows")
    )
    step.facts.update(
        data_version=manifest.id,
        reused=reused,
        created=manifest.created,
        sources=[
            {
                "name": source.name,
                "uri": found[source.name].uri,
                "rows": source.rows,
                "columns": len(source.columns),
                "bytes": source.bytes,
                "sha256": source.sha256,
            }
            for source in manifest.sources
        ],
    )
    return manifest.id
