"""A Feast offline store on DuckDB: one ASOF join a view, over parquet files and object stores.

Any Feast client uses it by `offline_store: {type: feature_repo.offline_store.DuckDBOfflineStore}`.
"""

# ruff: noqa: S608 (names are quoted; an entity query is the caller's own SQL)

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.errors import (
    EntityTimestampInferenceException,
    FeastEntityDFMissingColumnsError,
    SavedDatasetLocationAlreadyExists,
)
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
    make_tzaware,
)

from feature_repo.asof import TimedView, join
from feature_repo.duck import MEMORY_LIMIT, connect, instant, literal, parquet_view, quote
from slipway.storage import Location, locate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROW = "__row"


class DuckDBOfflineStoreConfig(FeastConfigBaseModel):
    """`offline_store:` of `feature_store.yaml`."""

    type: Literal["feature_repo.offline_store.DuckDBOfflineStore"] = (
        "feature_repo.offline_store.DuckDBOfflineStore"
    )
    memory_limit: str = MEMORY_LIMIT
    """What DuckDB may hold in memory; the rest goes to a temporary folder."""


class DuckDBRetrievalJob(RetrievalJob):
    """A query that runs when its result is asked for."""

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        repo_path: Path | None,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._evaluate().to_pandas()

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result as one parquet file, or into a folder where the path names none."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise TypeError(f"{type(storage).__name__}: only SavedDatasetFileStorage is written.")
        target = _locate(storage.to_data_source(), self._repo_path)
        if not target.path.endswith(".parquet"):
            target /= "data.parquet"
        if target.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=storage.file_options.uri)
        target.filesystem.create_dir(str(Path(target.path).parent))
        pyarrow.parquet.write_table(self.to_arrow(), target.path, filesystem=target.filesystem)


class DuckDBOfflineStore(OfflineStore):
    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Each row of `entity_df` (a frame, or DuckDB SQL), in its order, with its features.

        The row's moment is the column `event_timestamp`, or the only one that is a timestamp.
        """
        if entity_df is None:
            raise ValueError("DuckDBOfflineStore joins features to rows: pass entity_df.")
        entities = _entities(entity_df, config.offline_store.memory_limit)
        moment = _moment_column(entities.schema)
        entities = _in_utc(entities, moment)
        by_view, _ = _get_requested_feature_views_to_features_dict(
            feature_refs,
            feature_views,
            _get_requested_on_demand_feature_views(feature_refs, project, registry),
        )
        keys = {key for view in by_view for key in _join_keys(view).values()}
        if missing := keys - set(entities.column_names):
            raise FeastEntityDFMissingColumnsError(keys, missing)

        def evaluate() -> pa.Table:
            with _connect(config, [view.batch_source for view in by_view]) as connection:
                timed = []
                for number, (view, features) in enumerate(by_view.items()):
                    name = f"source {number}"
                    columns = _show(connection, name, view.batch_source, config.repo_path)
                    timed.append(_timed(view, name, features, columns, full_feature_names))
                number = pa.array(range(entities.num_rows), pa.int64())
                connection.register("entity rows", entities.append_column(_ROW, number))
                query = join('"entity rows"', _ROW, moment, timed)
                return connection.sql(query).to_arrow_table().drop_columns(_ROW)

        bounds = pyarrow.compute.min_max(entities[moment]).as_py()
        return DuckDBRetrievalJob(
            evaluate,
            config.repo_path,
            full_feature_names,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.column_names if name != moment],
                min_event_timestamp=bounds["min"],
                max_event_timestamp=bounds["max"],
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key with `start_date <= timestamp <= end_date`."""
        order = [f"{quote(timestamp_field)} desc"]
        if created_timestamp_column:
            order.append(f"{quote(created_timestamp_column)} desc nulls last")
        keys = f"partition by {_names(join_key_columns)}" if join_key_columns else ""
        newest = f" qualify row_number() over ({keys} order by {', '.join(order)}) = 1"
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        columns += [created_timestamp_column] if created_timestamp_column else []
        selected = _names(columns)
        if not join_key_columns:
            selected += f", {literal(DUMMY_ENTITY_VAL)} as {quote(DUMMY_ENTITY_ID)}"
        return _pull(config, data_source, selected, timestamp_field, start_date, end_date, newest)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row with `start_date <= timestamp <= end_date`; None leaves a side open."""
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        columns += [created_timestamp_column] if created_timestamp_column else []
        return _pull(config, data_source, _names(columns), timestamp_field, start_date, end_date)


def _pull(
    config: RepoConfig,
    source: DataSource,
    selected: str,
    timestamp: str,
    start: datetime | None,
    end: datetime | None,
    suffix: str = "",
) -> RetrievalJob:
    stamp = f"{quote(timestamp)}::timestamptz"
    bounds = [f"{stamp} >= {instant(make_tzaware(start))}"] if start else []
    bounds += [f"{stamp} <= {instant(make_tzaware(end))}"] if end else []

    def evaluate() -> pa.Table:
        with _connect(config, [source]) as connection:
            _show(connection, "source", source, config.repo_path, mapped=False)
            where = " and ".join(bounds) or "true"
            query = f"select {selected} from source where {where}{suffix}"
            return connection.sql(query).to_arrow_table()

    return DuckDBRetrievalJob(evaluate, config.repo_path)


def _names(columns: list[str]) -> str:
    return ", ".join(map(quote, columns))


@contextmanager
def _connect(config: RepoConfig, sources: list[DataSource]) -> Iterator[DuckDBPyConnection]:
    local = [path for source in sources if (path := _locate(source, config.repo_path).local)]
    reach = {folder for path in local for folder in (path, path.parent)}
    with (
        tempfile.TemporaryDirectory() as spill,
        connect(Path(spill), reach, config.offline_store.memory_limit) as connection,
    ):
        yield connection


def _locate(source: DataSource, repo_path: Path | None) -> Location:
    if not isinstance(source, FileSource) or not isinstance(
        source.file_format or ParquetFormat(), ParquetFormat
    ):
        raise TypeError(f"{source.name}: DuckDBOfflineStore reads a FileSource of parquet only.")
    uri = FileSource.get_uri_for_file_path(repo_path, source.path)
    credentials = source.resolve_credentials()
    if uri.startswith("s3://") and (source.s3_endpoint_override or credentials):
        store, path = FileSource.create_filesystem_and_path(
            uri, source.s3_endpoint_override, credentials
        )
        return Location(store, path, uri)
    return locate(uri)


def _show(
    connection: DuckDBPyConnection,
    name: str,
    source: DataSource,
    repo_path: Path | None,
    mapped: bool = True,
) -> list[str]:
    """Show a source under `name`, its columns renamed by its field mapping; returns these."""
    parquet_view(connection, name, _locate(source, repo_path))
    columns = [row[0] for row in connection.execute(f"describe {quote(name)}").fetchall()]
    mapping = {old: new for old, new in source.field_mapping.items() if mapped and old in columns}
    if mapping:
        renamed = ", ".join(
            f"{quote(column)} as {quote(mapping.get(column, column))}" for column in columns
        )
        connection.execute(
            f"create view {quote(f'mapped {name}')} as select {renamed} from {quote(name)}"
        )
    return [mapping.get(column, column) for column in columns]


def _timed(
    view: FeatureView, name: str, features: list[str], columns: list[str], full_names: bool
) -> TimedView:
    source = view.batch_source
    mapping: Mapping[str, str] = source.field_mapping
    mapped = any(old != new and new in columns for old, new in mapping.items())
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""

    def named(column: str) -> str:
        return column if column in columns else mapping.get(column, column)

    return TimedView(
        relation=quote(f"mapped {name}" if mapped else name),
        keys=_join_keys(view),
        timestamp=named(source.timestamp_field),
        features={feature: f"{prefix}{feature}" for feature in features},
        ttl=view.ttl or None,
        created=named(source.created_timestamp_column or ""),
    )


def _join_keys(view: FeatureView) -> dict[str, str]:
    """Entity column of the view to the column of the entity rows."""
    return {
        column.name: view.projection.join_key_map.get(column.name, column.name)
        for column in view.entity_columns
        if column.name != DUMMY_ENTITY_ID
    }


def _entities(entity_df: pd.DataFrame | str, memory_limit: str) -> pa.Table:
    if isinstance(entity_df, pd.DataFrame):
        return pa.Table.from_pandas(entity_df, preserve_index=False)
    if not isinstance(entity_df, str):
        raise TypeError(f"entity_df is a {type(entity_df).__name__}, not a DataFrame or SQL.")
    with (
        tempfile.TemporaryDirectory() as spill,
        connect(Path(spill), None, memory_limit) as connection,
    ):
        return connection.sql(entity_df).to_arrow_table()


def _moment_column(schema: pa.Schema) -> str:
    name = DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
    moments = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if name in schema.names:
        return name
    if len(moments) != 1:
        raise EntityTimestampInferenceException(name)
    return moments[0]


def _in_utc(table: pa.Table, column: str) -> pa.Table:
    """`table` with its moments as microseconds in UTC; one without a zone is meant as UTC."""
    moments = table[column]
    if not pa.types.is_timestamp(moments.type):
        moments = pa.chunked_array([pa.array(pd.to_datetime(moments.to_pandas(), utc=True))])
    moments = moments.cast(pa.timestamp("us", moments.type.tz), safe=False)
    if moments.type.tz is None:
        moments = pyarrow.compute.assume_timezone(moments, "UTC")
    at = table.schema.get_field_index(column)
    return table.set_column(at, column, moments.cast(pa.timestamp("us", "UTC")))
