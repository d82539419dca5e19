"""One way to files, wherever they lie: a path, `file://`, `s3://` or `gs://`.

Object stores are reached through pyarrow's own file systems. They take the usual environment:
AWS credentials, `AWS_REGION`, `AWS_ENDPOINT_URL` for an S3 of one's own (SeaweedFS, MinIO),
`AWS_MAX_ATTEMPTS`, Google's default credentials, and `STORAGE_EMULATOR_HOST` for an emulator of
Google's store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from pyarrow import NativeFile
from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSelector,
    FileSystem,
    FileType,
    GcsFileSystem,
    LocalFileSystem,
    S3FileSystem,
)

from slipway.errors import UserError
from slipway.files import write_text

SCHEMES = ("file", "s3", "gs")


@dataclass(frozen=True)
class Location:
    """A file or folder: a pyarrow file system, the path in it, and the URI that a person knows."""

    filesystem: FileSystem
    path: str
    uri: str

    @property
    def local(self) -> Path | None:
        """The path on this machine; None in an object store."""
        return Path(self.path) if isinstance(self.filesystem, LocalFileSystem) else None

    def __truediv__(self, name: str) -> Location:
        return Location(self.filesystem, f"{self.path}/{name}", f"{self.uri}/{name}")

    def exists(self) -> bool:
        with explained(self.uri):
            return bool(self.filesystem.get_file_info(self.path).type != FileType.NotFound)

    def size(self) -> int | None:
        """Bytes of a file; None where there is no file."""
        with explained(self.uri):
            info = self.filesystem.get_file_info(self.path)
        return info.size if info.type == FileType.File else None

    def open(self) -> NativeFile:
        """A seekable file to read."""
        return self.filesystem.open_input_file(self.path)

    def read_bytes(self) -> bytes:
        with (
            explained(self.uri),
            self.filesystem.open_input_stream(self.path, compression=None) as file,
        ):
            return bytes(file.read())

    def write_text(self, text: str) -> None:
        """The file is whole or absent: an object of a store is there when all of it is."""
        with explained(self.uri, "written"):
            if self.local:
                write_text(self.local, text)
            else:
                with self.filesystem.open_output_stream(self.path, compression=None) as file:
                    file.write(text.encode())

    def modified(self) -> datetime:
        """When the file was written."""
        with explained(self.uri):
            return cast(datetime, self.filesystem.get_file_info(self.path).mtime)

    def remove_folder(self, last_written: str) -> None:
        """Remove the folder and all in it; the file by which it exists goes first."""
        with explained(self.uri, "removed"):
            self.filesystem.delete_file((self / last_written).path)
            self.filesystem.delete_dir(self.path)

    def files(self, suffix: str) -> list[Location]:
        """The files right in this folder whose names end like that, sorted; hidden ones apart."""
        selector = FileSelector(self.path, allow_not_found=True)
        with explained(self.uri):
            found = self.filesystem.get_file_info(selector)
        names = sorted(item.base_name for item in found if item.type == FileType.File)
        return [self / name for name in names if name.endswith(suffix) and name[0] != "."]

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders in this one that hold a file `name`, sorted; hidden ones apart."""
        # Recursive, because folders of Google's store exist in the names of their files alone.
        selector = FileSelector(self.path, allow_not_found=True, recursive=True)
        with explained(self.uri):
            found = self.filesystem.get_file_info(selector)
        inner = [item.path.removeprefix(f"{self.path}/").split("/") for item in found]
        return sorted(p[0] for p in inner if p[1:] == [name] and not p[0].startswith("."))


def locate(uri: str, root: Path | None = None) -> Location:
    """Where `uri` points to; a relative path starts at `root`, or here."""
    parts = urlsplit(uri)
    if "://" not in uri or parts.scheme == "file":
        path = Path(unquote(parts.path) if parts.scheme == "file" else uri)
        return _local((root or Path()) / path)
    if parts.scheme not in SCHEMES:
        raise UserError(
            f"{uri}: '{parts.scheme}://' is no place for files.", "Use a path, s3:// or gs://."
        )
    if not parts.netloc:
        raise UserError(f"{uri}: no bucket is named.", f"Write {parts.scheme}://bucket/path.")
    # Not `parts.path`: an object's name may hold a `?` or a `#`.
    path_in_store = uri.partition("://")[2].rstrip("/")
    filesystem = _s3() if parts.scheme == "s3" else _gcs()
    return Location(filesystem, path_in_store, uri.rstrip("/"))


def _local(path: Path) -> Location:
    absolute = str(path.absolute())
    return Location(LocalFileSystem(), absolute, absolute)


def _s3() -> S3FileSystem:
    # pyarrow reads AWS_ENDPOINT_URL for `from_uri` alone, and the other two nowhere.
    return S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=10,
        request_timeout=60,
        # Three take two seconds; ten, for steps on a cluster, outlast a store that restarts.
        retry_strategy=AwsStandardS3RetryStrategy(
            max_attempts=int(os.environ.get("AWS_MAX_ATTEMPTS") or 3)
        ),
    )


def _gcs() -> GcsFileSystem:
    patience = timedelta(seconds=30)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return GcsFileSystem(retry_time_limit=patience)
    scheme, _, host = emulator.rpartition("://")
    return GcsFileSystem(
        anonymous=True,
        scheme=scheme or "http",
        endpoint_override=host,
        retry_time_limit=patience,
    )


@contextmanager
def explained(uri: str, action: str = "read") -> Iterator[None]:
    """Turns what goes wrong with a file or a store inside this block into a `UserError`."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{uri}: there is no such file.", "Correct the path.") from None
    except OSError as error:
        reason = str(error).split("; Details: ")[-1].strip()
        raise UserError(
            f"{uri}: cannot be {action} ({reason}).",
            "Check that the place can be reached, and your right to it.",
        ) from None
