"""The reference project with ten times the rows: `make bench-scale`.

Each copy of the flights has airlines and aircraft of its own, so entities grow with the rows, and
every airport is ten times as busy. One and ten copies are read from the same kind of file.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.measure import Measured, measured
from slipway.project import Project
from slipway.sources import read_source

ROOT = Path(__file__).resolve().parent.parent
COPIED = {"flights": ("carrier", "tailnum"), "planes": ("tailnum",)}


@click.command()
@click.option("--factor", default=10, show_default=True, help="How many copies.")
def main(factor: int) -> None:
    """Print seconds and memory of one and of `factor` copies, and the ratio."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for copies in (1, factor):
            project = generate(Path(folder) / str(copies), copies)
            command = [sys.executable, "-c", "from slipway.cli import main; main()", "run"]
            found[copies] = measured([*command, "--project", str(project)], {})
            _show(copies, found[copies])
    ratio = found[factor].seconds / found[1].seconds
    click.echo(f"{factor} times the rows take {ratio:.2f} times as long")


def _show(copies: int, result: Measured) -> None:
    click.echo(
        f"{copies * 336_776:>10,} flights {result.seconds:7.1f} s {result.peak_mb:8,.0f} MB at most"
    )


def generate(folder: Path, copies: int) -> Path:
    """A project whose flights and planes are `copies` copies of the reference project's."""
    original = Project.load(ROOT / "project.yaml")
    document = yaml.safe_load(original.path.read_text())
    shutil.copytree(ROOT / "feature_repo" / "tables", folder / "feature_repo" / "tables")
    shutil.copytree(ROOT / "feature_repo" / "views", folder / "feature_repo" / "views")
    for name, columns in COPIED.items():
        source = original.contract.sources[name]
        table = read_source(name, source, original.root, original.contract.timezone, lambda _: None)
        parts = [_renamed(table, columns, copy) for copy in range(copies)]
        pq.write_table(pa.concat_tables(parts), folder / f"{name}.parquet")
        document["sources"][name]["uri"] = f"{name}.parquet"
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _renamed(table: pa.Table, columns: tuple[str, ...], copy: int) -> pa.Table:
    for name in columns if copy else ():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pc.binary_join_element_wise(table[name], str(copy), "-"))
    return table


if __name__ == "__main__":
    main()
