"""The model package: the one folder that is registered, stored, and served.

    model.onnx        input `features` float32 [n, columns], output `prediction` float32:
                      [n] probability (binary) or value (regression), [n, classes] (multiclass)
    encoder.json      raw features by name to that matrix
    signature.json    task, classes, ordered raw features, entities, request schema
    explainer.npz     what explanations need; see `slipway.attribution`
    reference.json    a few raw rows and their predictions, to prove a load right
    metrics.json      scores on the test window
    MODEL_CARD.md, contract.yaml
    SHA256SUMS        of all of the above

No pickle anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.encoder import Columns, Encoder, input_features
from slipway.errors import UserError
from slipway.files import read_json, sha256, write_text

if TYPE_CHECKING:
    import pyarrow as pa
    from onnxruntime import InferenceSession

    from slipway.contract.model import Contract

CHECKSUMS = "SHA256SUMS"
EXPLAINER = "explainer.npz"
REQUIRED = (
    "model.onnx",
    "encoder.json",
    "signature.json",
    EXPLAINER,
    "reference.json",
    "metrics.json",
    "MODEL_CARD.md",
    "contract.yaml",
)


def make_signature(contract: Contract) -> dict[str, Any]:
    """What a client sends and what it gets, derived from the contract."""
    used = {entity for view in contract.views.values() for entity in view.entities}
    return {
        "name": contract.name,
        "task": contract.target.task,
        "classes": list(contract.target.classes or ()),
        "label": contract.target.label,
        "serving": contract.serving.behaviour,
        "entities": {
            name: {"type": entity.type, "description": entity.description}
            for name, entity in contract.entities.items()
            if name in used
        },
        "views": {
            name: {
                "entities": list(view.entities),
                "ttl_seconds": view.ttl.total_seconds() if view.ttl else None,
            }
            for name, view in contract.views.items()
        },
        "features": [
            {
                "name": feature.name,
                "type": feature.type,
                "source": feature.source,
                "on_null": feature.on_null,
                "range": [feature.low, feature.high],
            }
            for feature in input_features(contract)
        ],
    }


def seal(folder: Path) -> str:
    """Write `SHA256SUMS` over every file of a package; returns the package's digest."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}" for file in files]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")
    return digest(folder)


def digest(folder: Path) -> str:
    """The package's identity: the SHA-256 of its checksum list."""
    return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def verify(folder: Path) -> None:
    """Raises `UserError` for a package that is incomplete, altered, or holds a stranger's file."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UserError(f"{folder}: no {CHECKSUMS}, so this is not a model package.") from None
    listed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != CHECKSUMS
    }
    missing = sorted((set(REQUIRED) | set(listed)) - present)
    unlisted = sorted(present - set(listed))
    altered = sorted(n for n in present & set(listed) if sha256(folder / n) != listed[n])
    for names, what in ((missing, "missing"), (altered, "altered"), (unlisted, "not listed")):
        if names:
            raise UserError(
                f"{folder}: {', '.join(names)} {what} in the model package.",
                "Fetch the package again from the registry.",
            )


@dataclass(frozen=True)
class Model:
    """A loaded model: raw features in, predictions out."""

    signature: Mapping[str, Any]
    encoder: Encoder
    session: InferenceSession

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Model:
        """Load the model of a package or of a candidate; `verify` a package first."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        encoder = Encoder.from_json((folder / "encoder.json").read_text(encoding="utf-8"))
        return cls(read_json(folder / "signature.json"), encoder, session)

    def predict(self, rows: Columns | pa.Table) -> npt.NDArray[np.float32]:
        """float32 [n], or [n, classes] of a multiclass model."""
        return self.predict_encoded(self.encoder.encode(rows))

    def predict_encoded(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        result: npt.NDArray[np.float32] = self.session.run(["prediction"], {"features": matrix})[0]
        return result
