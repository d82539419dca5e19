"""CSV and parquet files to Arrow tables, and what is wrong with a file in one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from slipway.contract.model import Source
from slipway.errors import UserError
from slipway.storage import Location, explained

_COMPRESSIONS = (".gz", ".zip")
_BLOCK = 8 << 20  # bytes of CSV per parse task; no row may be longer


def read_file(location: Location, source: Source) -> pa.Table:
    """The contract's columns that the file holds: as text from CSV, as they are from parquet."""
    form, compression = _form(location, source)
    with explained(location.uri):
        if form == "parquet":
            return _read_parquet(location, source)
        return _read_csv(location, source, compression)


def _form(location: Location, source: Source) -> tuple[str, str]:
    """`csv` or `parquet`, and the compression's ending."""
    path = PurePosixPath(location.path.lower())
    compression = path.suffix if path.suffix in _COMPRESSIONS else ""
    ending = path.with_suffix("").suffix if compression else path.suffix
    form = source.format or ending.lstrip(".")
    if form not in ("csv", "parquet"):
        raise UserError(
            f"'{PurePosixPath(location.path).name}' does not end in .csv, .csv.gz, .csv.zip or "
            ".parquet.",
            "Say what it is: `format: csv` or `format: parquet`.",
        )
    if form == "parquet" and compression:
        raise UserError("a parquet file is compressed already.", f"Unpack the {compression} file.")
    return form, compression


def _read_parquet(location: Location, source: Source) -> pa.Table:
    try:
        with location.open() as file:
            parquet = pq.ParquetFile(file)
            columns = _wanted(source, parquet.schema_arrow.names)
            return parquet.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise UserError(
            f"it is not a whole parquet file ({_first_line(error)}).", "Export or copy it again."
        ) from None


def _read_csv(location: Location, source: Source, compression: str) -> pa.Table:
    with _unpacked(location, compression) as file:
        header = _header(file)
    columns = _wanted(source, header)
    try:
        with _unpacked(location, compression) as file:
            return pa.csv.read_csv(
                file,
                read_options=pa.csv.ReadOptions(block_size=_BLOCK),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=columns,
                    column_types={name: pa.string() for name in columns},
                    null_values=list(source.null_values),
                    strings_can_be_null=True,
                ),
            )
    except pa.ArrowInvalid as error:
        with _unpacked(location, compression) as file:
            raise _what_is_wrong(file, len(header), error) from None


@contextmanager
def _unpacked(location: Location, compression: str) -> Iterator[BinaryIO]:
    """The file's bytes, out of a gzip or a zip archive of one file."""
    try:
        with location.open() as file:
            if compression == ".gz":
                with gzip.GzipFile(fileobj=file) as inner:
                    yield cast(BinaryIO, inner)
            elif compression == ".zip":
                with _archive(file) as archive:
                    names = [n for n in archive.namelist() if not n.endswith("/")]
                    if len(names) != 1:
                        raise UserError(
                            f"the archive holds {len(names)} files instead of one.",
                            "Pack the one table alone.",
                        )
                    with archive.open(names[0]) as member:
                        yield cast(BinaryIO, member)
            else:
                yield file
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"it is not a whole {compression} file ({_first_line(error)}).",
            "Export or copy it again.",
        ) from None


def _archive(file: pa.NativeFile) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except pa.ArrowInvalid:  # it looks for the directory before the file's start
        raise zipfile.BadZipFile("it is too short") from None


def _lines(file: BinaryIO) -> Iterator[str]:
    """Decoded one by one, so that an error belongs to its line."""
    for line in io.BufferedReader(cast(io.RawIOBase, file)):
        yield line.decode("utf-8-sig")


def _header(file: BinaryIO) -> list[str]:
    try:
        header = next(csv.reader(_lines(file)), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"its first line is not CSV in UTF-8 ({error}).", "Save it as UTF-8."
        ) from None
    if not header:
        raise UserError("it is empty.", "Export it again, with its header line.")
    return header


def _wanted(source: Source, present: list[str]) -> list[str]:
    """The contract's columns that are there; the gate reports the others."""
    wanted = [name for name in source.columns if name in present]
    if not wanted:
        raise UserError(
            f"it has none of the contract's columns; it has {', '.join(present[:12])}.",
            "Correct the names under `columns`, or the file's separator (a comma).",
        )
    double = next((name for name in wanted if present.count(name) > 1), None)
    if double:
        raise UserError(f"it has the column '{double}' twice.", "Rename one of them.")
    return wanted


def _what_is_wrong(file: BinaryIO, width: int, error: pa.ArrowInvalid) -> UserError:
    """Read again, slowly, to say in which line."""
    last = 1
    try:
        rows = csv.reader(_lines(file))
        for row in rows:
            if row and len(row) != width:
                return UserError(
                    f"line {last} has {len(row)} values where the header has {width}.",
                    "Mend the line; if it is the last, the file was cut short: export it again.",
                )
            last = rows.line_num + 1
    except UnicodeDecodeError:
        return UserError(f"line {last} is not UTF-8.", "Save it as UTF-8.")
    except csv.Error as fault:
        return UserError(f"line {last} is not CSV ({fault}).", "Mend the line.")
    return UserError(f"it is not CSV ({_first_line(error)}).", "Export it again.")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
