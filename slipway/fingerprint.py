"""The identity of a table: a hash of its content alone.

Not of a file: parquet bytes change with the writer's version, its row groups and its compression,
and each such change would look like new data and train a new model. Not of Arrow's buffers either:
they change with chunks, offsets and what lies under a null. So the hash runs over a canonical form:
per column its name, its type and three streams, little-endian, in the order of the rows: which
values are there (a byte each), the values (zero where null), the length of each text.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slipway.arrow import ARROW_TYPES

TYPE_NAMES = {kind: name for name, kind in ARROW_TYPES.items()}


def fingerprint(table: pa.Table) -> str:
    """SHA-256, as hex, of a table whose columns have types of the contract."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        digest.update(f"{name}\0{TYPE_NAMES[column.type]}\0{len(column)}\0".encode())
        digest.update(_column(column))
    return digest.hexdigest()


def _column(column: pa.ChunkedArray) -> bytes:
    present, values, lengths = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for chunk in column.chunks:
        present.update(chunk.is_valid().cast(pa.uint8()).to_numpy())
        if pa.types.is_string(column.type):
            text = chunk.fill_null("")
            lengths.update(pc.binary_length(text).to_numpy())
            values.update(_characters(text))
        elif pa.types.is_boolean(column.type):
            values.update(chunk.fill_null(False).cast(pa.uint8()).to_numpy())
        elif pa.types.is_timestamp(column.type):
            values.update(chunk.cast(pa.int64()).fill_null(0).to_numpy())
        else:
            values.update(chunk.fill_null(0).to_numpy())
    return present.digest() + values.digest() + lengths.digest()


def _characters(text: pa.StringArray) -> memoryview:
    """The bytes of an array without nulls, whatever part of its buffers it is."""
    _, offsets, characters = text.buffers()
    if characters is None or not len(text):
        return memoryview(b"")
    edges = np.frombuffer(offsets, np.int32)[[text.offset, text.offset + len(text)]]
    return memoryview(characters)[edges[0] : edges[1]]
