"""Folders that the machines of a Ray cluster share: copies of them in an object store.

On one machine the shared place is a folder that everyone sees, and nothing is copied.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from pyarrow.fs import FileSelector, FileType, LocalFileSystem, copy_files

from slipway.storage import Location, explained, locate


def publish(folder: Path, place: Location, last: str = "") -> None:
    """Copy `folder` to `place`. Whoever finds the file `last` there finds all others too."""
    if place.local:
        return
    with explained(place.uri, "written"):
        for path in sorted(folder.rglob("*"), key=lambda path: path.name == last):
            if path.is_file():
                target = place / path.relative_to(folder).as_posix()
                copy_files(
                    str(path),
                    target.path,
                    source_filesystem=LocalFileSystem(),
                    destination_filesystem=place.filesystem,
                )


def fetch(place: Location, folder: Path) -> None:
    """Copy what lies at `place` to `folder`; nothing where nothing is."""
    if place.local:
        return
    folder.mkdir(parents=True, exist_ok=True)
    selector = FileSelector(place.path, recursive=True, allow_not_found=True)
    with explained(place.uri):
        for found in place.filesystem.get_file_info(selector):
            target = folder / found.path.removeprefix(f"{place.path}/")
            if found.type == FileType.File:
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_files(
                    found.path,
                    str(target),
                    source_filesystem=place.filesystem,
                    destination_filesystem=LocalFileSystem(),
                )


def nearby(uri: str) -> Path:
    """The folder at `uri` on this machine; a copy, made once by each process, of a remote one."""
    place = locate(uri)
    if place.local:
        return place.local
    name = f"slipway-{hashlib.sha256(uri.encode()).hexdigest()[:12]}-"
    if uri not in _copies:
        folder = tempfile.TemporaryDirectory(prefix=name)
        fetch(place, Path(folder.name))
        _copies[uri] = folder
    return Path(_copies[uri].name)


_copies: dict[str, tempfile.TemporaryDirectory[str]] = {}


def remove(place: Location) -> None:
    """Delete a shared file or folder, which may be gone already."""
    with explained(place.uri, "removed"):
        if place.size() is None:
            place.filesystem.delete_dir_contents(place.path, missing_dir_ok=True)
        else:
            place.filesystem.delete_file(place.path)
