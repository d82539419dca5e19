"""The typed shape of `project.yaml`. What spans several fields is checked in `checks.py`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from slipway.contract.units import (
    CalendarSpan,
    Cpu,
    Duration,
    Instant,
    Memory,
    Ttl,
    parse_duration,
    parse_instant,
)
from slipway.errors import UserError

ColumnType = Literal["int", "float", "string", "bool", "timestamp"]
FeatureType = Literal["int", "float", "string", "bool"]
Task = Literal["binary", "multiclass", "regression"]
Engine = Literal["torch", "xgboost"]
TimePart = Literal["minute_of_day", "hour", "day_of_week", "day_of_year"]
NullPolicy = Literal["keep", "refuse"]
Scalar = int | float | str | bool
Bound = int | float | Instant | None

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Percent = Annotated[int, Field(gt=0, le=100)]


def _timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"'{name}' is not an IANA time zone; write one like America/New_York")
    return name


class Section(BaseModel):
    """Strict (no coercion), frozen, and a misspelt field is an error."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class Column(Section):
    """What a source column must hold for the pipeline to go on."""

    type: ColumnType
    format: str | None = None
    """How a text says a timestamp, as for `strptime`; left out, ISO 8601."""
    nulls: Share = 0.0
    """Largest share of rows that may be null."""
    range: tuple[Bound, Bound] | None = None
    """Smallest and largest value, both included; null leaves a side open."""
    values: tuple[Scalar, ...] | None = None
    """The only values allowed."""
    severity: Literal["critical", "warning"] = "critical"
    """A broken `nulls`, `range` or `values` rule stops the run (critical) or is reported."""


class Source(Section):
    """One table as it comes from outside."""

    uri: str
    """package://, file://, s3://, gs://, https:// or an SQLAlchemy URI; a path is relative."""
    format: Literal["csv", "parquet"] | None = None
    """Needed only where the URI's ending does not say it."""
    query: str | None = None
    """The SELECT to run; needed for a database URI."""
    null_values: tuple[str, ...] = ("",)
    """CSV texts that mean null."""
    key: tuple[str, ...] = ()
    """Columns that together identify a row; duplicates stop the run."""
    ordered_by: tuple[str, ...] = ()
    """Columns by which the rows must come in order."""
    min_rows: Positive = 1
    columns: dict[str, Column] = Field(min_length=1)
    """The columns that are read; others are left out of the data version."""


class Table(Section):
    """Facts made from sources by SQL. A row is invisible before its `known_at`."""

    sql: str
    known_at: str = "known_at"
    """The column that says when a fact was known, not when it was about."""


class Entity(Section):
    """A thing that features are looked up by; its name is the join key."""

    type: Literal["string", "int"] = "string"
    description: str = ""


class Feature(Section):
    """One feature of a view."""

    type: FeatureType
    range: tuple[float | None, float | None] | None = None
    on_null: NullPolicy = "keep"
    """A missing or stale value: let the model see a null, or refuse the request."""
    description: str = ""


class FeatureView(Section):
    """Features of one or more entities over time, made by SQL over tables."""

    sql: str
    entities: tuple[Name, ...] = Field(min_length=1)
    event_timestamp: str = "known_at"
    ttl: Ttl
    """Age after which a value is null instead of stale; `never` for facts that do not age."""
    features: dict[Name, Feature] = Field(min_length=1)
    description: str = ""


class RequestFeature(Section):
    """A feature that the client sends, because it is known when the prediction is asked for."""

    type: ColumnType
    parts: tuple[TimePart, ...] | None = None
    """What of a timestamp the model sees, in the project's time zone."""
    range: tuple[float | None, float | None] | None = None
    on_null: NullPolicy = "refuse"
    description: str = ""


class Target(Section):
    """The predictions to learn: one row per prediction, with its entities and request features."""

    sql: str
    key: tuple[str, ...] = Field(min_length=1)
    """Columns that identify a prediction; labels that arrive later are joined on them."""
    event_timestamp: str
    """When the prediction is asked for; features are joined as of this moment."""
    label: str
    label_timestamp: str
    """When the label became known."""
    task: Task
    classes: tuple[str, ...] | None = None
    """Multiclass only: the label's values, in the order of the model's output."""


class Split(Section):
    """Windows by time, counted back from `as_of`: train, then validate, then test."""

    train: CalendarSpan
    validate_: CalendarSpan = Field(alias="validate")
    test: CalendarSpan


class TorchSettings(Section):
    epochs: Positive = 6
    batch_size: Positive = 2048
    hidden: tuple[Positive, ...] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    learning_rate: Annotated[float, Field(gt=0)] = 0.004
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class XgboostSettings(Section):
    rounds: Positive = 400
    early_stopping_rounds: Positive = 25
    max_depth: Positive = 6
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    subsample: Annotated[float, Field(gt=0, le=1)] = 0.8
    colsample_bytree: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_child_weight: Annotated[float, Field(ge=0)] = 20.0


class Range(Section):
    """A search interval; `log` samples its orders of magnitude evenly."""

    min: float
    max: float
    log: bool = False


class Search(Section):
    """Hyperparameter search with Ray Tune, on the validation window."""

    method: Literal["grid", "random", "bayesian"]
    trials: Positive = 10
    """How many settings to try; a grid tries all of its own."""
    early_stopping: bool = True
    """Stop trials that fall behind (ASHA)."""
    space: dict[str, Range | tuple[Scalar, ...]] = Field(min_length=1)
    """`engine.setting` to an interval or a list of values, like `xgboost.max_depth: [4, 6, 8]`."""


class Training(Section):
    engine: Literal["torch", "xgboost", "auto"] = "auto"
    """`auto` trains both and keeps the better one on the validation window."""
    seed: int = 0
    workers: Positive = 1
    """Ray Train workers; more than one trains data-parallel."""
    use_gpu: bool = False
    cpus_per_worker: Positive = 1
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often a lost worker is replaced; training resumes from its last checkpoint."""
    torch: TorchSettings = TorchSettings()
    xgboost: XgboostSettings = XgboostSettings()
    search: Search | None = None


class Gate(Section):
    """What a candidate must reach on the test window to become champion."""

    metric: str
    min: float | None = None
    max: float | None = None
    versus: Literal["prior", "linear", "champion"] | None = None
    """Compare with another model: the 95 % interval of the difference must not reach beyond
    `tolerance` on the worse side."""
    tolerance: float = 0.0


class Evaluation(Section):
    slices: tuple[str, ...] = ()
    """Request features, entities, or `month`, by which the test window is looked at."""
    bootstrap: Positive = 300
    """Resamples behind the 95 % intervals."""


class Replicas(Section):
    """Pods of a version of the model on a cluster."""

    min: Positive = 1
    """Two or more let a node or a pod die without a request unanswered."""
    max: Positive | None = None
    """Left out, `min`; more lets an autoscaler add pods."""
    metric: Literal["cpu", "memory"] = "cpu"
    target: Percent = 80
    """Per cent of what a pod requests that the autoscaler aims at."""

    @property
    def most(self) -> int:
        return self.min if self.max is None else self.max


class Resources(Section):
    """What one pod gets on a cluster."""

    cpu: Cpu = "50m"
    """Requested; it may use what nobody else needs, where `cpu_limit` is left out."""
    cpu_limit: Cpu | None = None
    memory: Memory = "300Mi"
    """Requested."""
    memory_limit: Memory = "768Mi"


class Transformer(Section):
    """Pods that look up features, where `mode` is `split`."""

    replicas: Replicas = Replicas()
    resources: Resources = Resources(memory="200Mi", memory_limit="512Mi")


class Canary(Section):
    """How a new version takes over from the one before."""

    steps: tuple[Annotated[int, Field(gt=0, lt=100)], ...] = (10, 50)
    """Per cent of the requests that it gets, one step after the other; then all. Empty: at once."""
    hold: Duration = parse_duration("30s")
    """How long each step lasts, all of them a day at most; a version that falters is taken back."""


class Serving(Section):
    """How the model answers."""

    on_store_failure: Literal["refuse", "nulls"] = "refuse"
    """When the online store does not answer: refuse with 503, or let the model see nulls."""
    payload_sample: Share = 1.0
    """Share of the requests that the payload log keeps, where one is switched on."""
    mode: Literal["combined", "split"] = "combined"
    """On a cluster: features and model in one pod, or each in pods of its own."""
    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    transformer: Transformer = Transformer()
    canary: Canary = Canary()

    @property
    def behaviour(self) -> dict[str, Any]:
        """What an answer depends on; the rest is about pods, and may change under a model."""
        return self.model_dump(include={"on_store_failure", "payload_sample"})


class Monitoring(Section):
    psi_warning: Annotated[float, Field(gt=0)] = 0.2
    """Population stability index from which a feature counts as drifted."""


class Contract(Section):
    """One model of a project, from its sources to its gates."""

    name: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
    """Also the name of the registered model and of the InferenceService."""
    description: str
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    as_of: Instant | None = None
    """Where a static data set ends; left out, each run takes the present moment."""
    sources: dict[Name, Source] = Field(min_length=1)
    tables: dict[Name, Table] = Field(min_length=1)
    entities: dict[Name, Entity] = Field(min_length=1)
    views: dict[Name, FeatureView]
    request: dict[Name, RequestFeature] = {}
    target: Target
    split: Split
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    gates: tuple[Gate, ...] = ()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def localize(self, moment: datetime) -> datetime:
        """`moment` with the project's zone where it has none."""
        return moment if moment.tzinfo else moment.replace(tzinfo=self.zone)

    def resolve_as_of(self, text: str = "") -> datetime:
        """The run's `as_of` in UTC: the given text, else the contract's, else now."""
        try:
            moment = parse_instant(text) if text else self.as_of
        except ValueError as error:
            raise UserError(f"as_of: {error}.") from None
        return (self.localize(moment) if moment else datetime.now(UTC)).astimezone(UTC)

    def windows(self, as_of: datetime) -> dict[str, tuple[datetime, datetime]]:
        """Start and end (excluded) of `train`, `validate` and `test` in UTC, back from `as_of`."""
        end = as_of.astimezone(self.zone)
        found = {}
        for name, span in (
            ("test", self.split.test),
            ("validate", self.split.validate_),
            ("train", self.split.train),
        ):
            start = span.before(end)
            found[name] = (start.astimezone(UTC), end.astimezone(UTC))
            end = start
        return dict(reversed(found.items()))

    @property
    def sql_paths(self) -> tuple[str, ...]:
        """Every SQL file that the contract names, relative to it."""
        tables = [table.sql for table in self.tables.values()]
        return (*tables, *(view.sql for view in self.views.values()), self.target.sql)
