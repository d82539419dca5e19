"""A project: its contract, its SQL, and the home of what its runs leave behind."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from slipway.contract import Contract, load_contract
from slipway.errors import UserError


@dataclass(frozen=True)
class Project:
    """`project.yaml` with everything that lies relative to it."""

    path: Path
    contract: Contract
    version: str
    """SHA-256 of the contract and every SQL file it names: a change of either is a new project
    version, and a new cache key for every pipeline step."""

    @classmethod
    def load(cls, path: str | Path) -> Project:
        """Raises `UserError` for a contract, or an SQL file, that is missing or wrong."""
        path = Path(path).resolve()
        contract = load_contract(path)
        digest = hashlib.sha256(path.read_bytes())
        for name in contract.sql_paths:
            file = path.parent / name
            if not file.is_file():
                raise UserError(f"{path}: the SQL file {name} does not exist.", "Write it.")
            digest.update(name.encode() + b"\0" + file.read_bytes())
        return cls(path, contract, digest.hexdigest()[:16])

    @property
    def root(self) -> Path:
        return self.path.parent

    @property
    def home(self) -> Home:
        """`SLIPWAY_HOME`, or `.slipway` beside the contract."""
        return Home(Path(os.environ.get("SLIPWAY_HOME") or self.root / ".slipway").resolve())

    def sql(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Home:
    """Where one project's state lives. On a cluster the environment names shared stores instead."""

    path: Path

    @property
    def data_uri(self) -> str:
        """Data versions: a folder, or `s3://`, `gs://`."""
        return os.environ.get("SLIPWAY_DATA_URI") or str(self.path / "data")

    @property
    def features_uri(self) -> str:
        """Feature tables of the offline store."""
        return os.environ.get("SLIPWAY_FEATURES_URI") or str(self.path / "features")

    @property
    def feast(self) -> Path:
        """The embedded registry and online store, or the configuration of a shared one."""
        return Path(os.environ.get("SLIPWAY_FEATURE_STORE") or self.path / "feast")

    @property
    def tracking_uri(self) -> str:
        """The MLflow server, or the embedded SQLite store."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Artifact root of the embedded MLflow store."""
        return self.path / "mlflow-artifacts"

    @property
    def evaluations_uri(self) -> str:
        """The record of every look at a test window: a folder, or `s3://`, `gs://`."""
        return os.environ.get("SLIPWAY_EVALUATIONS_URI") or str(self.path / "evaluations")

    @property
    def ray(self) -> Path:
        """Ray Train checkpoints."""
        return self.path / "ray"

    @property
    def pipelines(self) -> Path:
        """Pipeline root and cache of local runs."""
        return self.path / "pipelines"

    @property
    def serving(self) -> Path:
        """Online store, package and process files of the local endpoint."""
        return self.path / "serving"

    @property
    def report(self) -> Path:
        """`index.html` and `summary.json` of the newest run."""
        return self.path / "report"
