"""`python -m ops COMMAND …`: finds the command's module and runs it.

Exit codes: 0 done, 1 a fault of ours or of a dependency (run the same command again), 2 a mistake
that one sentence explains.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType

from slipway.errors import Fault, UserError

COMMANDS = {
    "wait": "wait until services answer",
    "secrets": "make the passwords of an installation and the secrets that hold them",
    "databases": "make databases and their users",
    "buckets": "make buckets",
    "webhook-certificate": "make the certificate of KServe's webhooks where no cert-manager does",
}
"""Each is the module of its name (`-` is `_` there), imported when it is used."""


def main(argv: list[str]) -> int:
    # Process 1 of a container ignores the signal otherwise, and its pod would take 30 s to end.
    signal.signal(signal.SIGTERM, _end)
    name = argv[0] if argv else ""
    if name not in COMMANDS:
        lines = [f"  {known:<21}{text}" for known, text in COMMANDS.items()]
        print("usage: python -m ops COMMAND …\n", *lines, sep="\n", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"ops.{name.replace('-', '_')}").main(argv[1:])
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Fault as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
