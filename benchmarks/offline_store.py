"""Point-in-time joins through Feast: our offline store beside Feast's `file` store.

    python -m benchmarks.offline_store [project.yaml]

Takes the newest feature version that `make demo` has left. Both stores read the same files by the
same definitions in the same process; Feast's own gets few rows and one view at a time, because it
pairs every row with every value of its entity.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from feast import FeatureStore, RepoConfig

from feature_repo.build import MANIFEST, TRAINING_SET
from feature_repo.definitions import definitions, feast_project
from slipway.project import Project

ROWS = 1000
VIEWS = ("weather", "carrier_week", "route_month", "plane")
"""Small enough for Feast's own store: 3 k to 63 k values, at most 9 million pairs."""


def main() -> None:
    project = Project.load(sys.argv[1] if len(sys.argv) > 1 else "project.yaml")
    manifests = Path(project.home.features_uri).glob(f"*/{MANIFEST}")
    version = max(manifests, key=lambda path: path.stat().st_mtime).parent
    contract = project.contract
    columns = [contract.target.event_timestamp, *contract.entities]
    rows = pq.read_table(version / TRAINING_SET, columns=columns).to_pandas()
    rows = rows.rename(columns={contract.target.event_timestamp: "event_timestamp"})
    few = rows.drop_duplicates().sample(ROWS, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            _store(project, version.name, Path(folder), kind)
            for kind in ("feature_repo.offline_store.DuckDBOfflineStore", "file")
        )
        everything = [ref for view in contract.views for ref in _refs(project, view)]
        print(f"{'rows':>9} {'views':<14} {'ours, s':>8} {'file, s':>8} {'ratio':>6}")
        print(f"{len(rows):>9,} {'all':<14} {_seconds(ours, rows, everything):>8.2f}")
        for view in VIEWS:
            mine, own = (_seconds(store, few, _refs(project, view)) for store in (ours, theirs))
            print(f"{ROWS:>9,} {view:<14} {mine:>8.2f} {own:>8.2f} {own / mine:>6.0f}")


def _refs(project: Project, view: str) -> list[str]:
    return [f"{view}:{feature}" for feature in project.contract.views[view].features]


def _store(project: Project, version: str, folder: Path, kind: str) -> FeatureStore:
    name = kind.rsplit(".", 1)[-1]
    config = RepoConfig(
        project=feast_project(project),
        provider="local",
        registry=str(folder / f"{name}.db"),
        online_store={"type": "sqlite", "path": str(folder / f"{name}-online.db")},
        offline_store={"type": kind},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    store.apply(definitions(project, version))
    return store


def _seconds(store: FeatureStore, rows, refs: list[str]) -> float:
    started = time.perf_counter()
    store.get_historical_features(rows, refs, full_feature_names=True).to_df()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
