"""One reader for every kind of source: package, file, object store, web server, database."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from slipway.contract.checks import DATABASES
from slipway.contract.model import Source
from slipway.errors import UserError
from slipway.sources.columns import conform
from slipway.sources.uris import Say, fetched, parse_uri

__all__ = ["public_uri", "read_source"]


def read_source(name: str, source: Source, root: Path, zone: str, say: Say = print) -> pa.Table:
    """A source's rows in their order, with the contract's columns that it has, in its order.

    A column has its contract's Arrow type if all its values are of that type, else it is text; see
    `slipway.sources.columns`. Relative paths start at `root`; moments without an offset are in
    `zone`; `say` is told of long downloads. Raises `UserError` that names source, URI, problem and
    fix.
    """
    uri = parse_uri(source.uri)
    try:
        if uri.scheme.partition("+")[0] in DATABASES:
            from slipway.sources.database import read_query

            table = read_query(uri.full, source, root)
        else:
            from slipway.sources.tables import read_file

            with fetched(uri, root, say) as location:
                table = read_file(location, source)
        if table.num_rows == 0:
            raise UserError("it has columns and not a single row.", "Export it again.")
        columns = {}
        for column in table.column_names:
            try:
                columns[column] = conform(table[column], source.columns[column], zone)
            except TypeError as error:
                raise UserError(f"column '{column}': {error}.", "Flatten it.") from None
            # Give each text column back as soon as it is cast: half the memory of a long table.
            table = table.drop_columns([column])
        return pa.table(columns)
    except UserError as error:
        problem, fix = uri.conceal(error.problem), uri.conceal(error.fix)
        shown = "" if uri.public in problem else f" ({uri.public})"
        raise UserError(f"source '{name}'{shown}: {problem}", fix) from None


def public_uri(source: Source) -> str:
    """The source's URI without credentials, fit for manifests and messages."""
    return parse_uri(source.uri).public
