"""Source URIs: `${VARIABLES}` filled in, secrets kept out of every message, a file found."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from slipway.errors import UserError
from slipway.storage import Location, locate

Say = Callable[[str], None]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PATIENCE = 30.0  # seconds without a byte, after which a server counts as gone


@dataclass(frozen=True)
class SourceUri:
    """A source's URI twice: ready to use, and fit to be shown."""

    full: str
    public: str
    """Without variables' values, passwords and query strings."""
    secrets: tuple[str, ...]

    @property
    def scheme(self) -> str:
        return self.full.partition("://")[0] if "://" in self.full else ""

    def conceal(self, text: str) -> str:
        """`text` without this URI's secrets."""
        text = text.replace(self.full, self.public)
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parse_uri(text: str) -> SourceUri:
    """Fill in `${VARIABLES}` from the environment, percent-encoded where they are credentials."""
    secrets: set[str] = set()

    def fill(part: str, credentials: bool) -> str:
        def value(match: re.Match[str]) -> str:
            found = os.environ.get(match[1])
            if not found:
                raise UserError(
                    f"{_masked(text)}: the environment variable {match[1]} is not set.",
                    f"Set it: export {match[1]}=...",
                )
            secrets.add(found)
            return quote(found, safe="") if credentials else found

        return _VARIABLE.sub(value, part)

    credentials, at, rest = text.rpartition("@")
    full = fill(credentials, True) + at + fill(rest, False)
    password = urlsplit(full).password
    if password:
        secrets |= {password, unquote(password)}
    longest_first = sorted(secrets, key=len, reverse=True)
    return SourceUri(full, _masked(text), tuple(longest_first))


def _masked(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    if colon and not _VARIABLE.fullmatch(password):
        credentials = f"{user}:***"
    if scheme not in ("s3", "gs", "file", "package"):
        path, question, _ = place.partition("?")
        place = f"{path}?***" if question else path
    return f"{scheme}://{credentials}{at}{place}"


@contextmanager
def fetched(uri: SourceUri, root: Path, say: Say) -> Iterator[Location]:
    """The file that `uri` names; one from a web server is downloaded for the time of the block."""
    if uri.scheme == "package":
        yield _in_package(uri.full)
    elif uri.scheme in ("http", "https"):
        with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
            name = Path(unquote(urlsplit(uri.full).path)).name or "download"
            yield locate(str(_download(uri, Path(folder) / name, say)))
    elif uri.scheme in ("", "file", "s3", "gs"):
        yield locate(uri.full, root)
    else:
        raise UserError(
            f"'{uri.scheme}://' is not a kind of source.",
            "Use a path, package://, file://, s3://, gs://, https:// or a database URI.",
        )


def _in_package(uri: str) -> Location:
    """A file that an installed package ships, found without importing the package."""
    name, _, inside = uri.partition("://")[2].partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the Python package '{name}' is not installed.", f"Install it: pip install {name}"
        )
    file = Path(next(iter(spec.submodule_search_locations))) / inside
    if not file.is_file():
        names = [item.name for item in file.parent.glob("*") if item.is_file()]
        close = get_close_matches(file.name, names, n=1)
        fix = f"Did you mean {close[0]}?" if close else "Look into the package for its name."
        raise UserError(f"the package '{name}' holds no file {inside}.", fix)
    return locate(str(file))


def _download(uri: SourceUri, to: Path, say: Say) -> Path:
    import httpx

    said = time.monotonic()
    received = 0
    try:
        with (
            httpx.stream("GET", uri.full, timeout=_PATIENCE, follow_redirects=True) as response,
            to.open("wb") as file,
        ):
            if response.is_error:
                raise UserError(
                    f"the server answers {response.status_code} {response.reason_phrase}.",
                    "Check the address and your right to it.",
                )
            total = int(response.headers.get("content-length", 0))
            for chunk in response.iter_bytes():
                file.write(chunk)
                received += len(chunk)
                if time.monotonic() - said > 2:
                    said = time.monotonic()
                    say(f"{uri.public}: {_megabytes(received, total)}")
    except httpx.HTTPError as error:
        raise UserError(
            f"the download ended after {received:,} bytes ({error or type(error).__name__}).",
            "Check that this machine reaches the server, then run again.",
        ) from None
    except httpx.InvalidURL as error:
        raise UserError(f"the address is wrong ({error}).", "Correct it.") from None
    return to


def _megabytes(received: int, total: int) -> str:
    of = f" of {total / 1e6:.0f}" if total else ""
    return f"{received / 1e6:.0f}{of} MB"
