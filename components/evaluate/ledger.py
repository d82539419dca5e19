"""The record of every look at a test window.

A test window that is looked at often stops being one: whoever picks the best of many looks has
trained on it. So each look is written down, the same look is not taken twice, and the report says
how many candidates a window has seen.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from slipway.storage import locate


class Ledger:
    """Looks at one test window: a file for each candidate and champion that were compared on it.

    A file is written whole and never changed, so that many runs may share the ledger.
    """

    def __init__(self, uri: str, window: dict[str, str]) -> None:
        """`uri` is a folder, or `s3://`, `gs://`; `window` says which rows: data version, label,
        start and end."""
        text = json.dumps(window, sort_keys=True)
        self._folder = locate(uri) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._window = window

    def find(self, candidate: str, champion: str | None, how: str) -> dict[str, Any] | None:
        """What an earlier look at this candidate found, if it was compared with this champion, and
        scored as `how` says."""
        for look in self._looks():
            same = look["candidate"] == candidate and look["how"] == how
            # A candidate that has become champion since is compared with nobody new.
            if same and champion in (look["champion"], candidate):
                return dict(look["result"])
        return None

    def looks(self) -> int:
        """How many different candidates this window has seen."""
        return len({look["candidate"] for look in self._looks()})

    def add(self, candidate: str, champion: str | None, how: str, result: dict[str, Any]) -> None:
        name = hashlib.sha256(f"{candidate} {champion} {how}".encode()).hexdigest()[:16]
        look = {
            "window": self._window,
            "candidate": candidate,
            "champion": champion,
            "how": how,
            "looked_at": datetime.now(UTC).isoformat(),
            "result": result,
        }
        text = json.dumps(look, indent=2, allow_nan=False) + "\n"
        (self._folder / f"{name}.json").write_text(text)

    def _looks(self) -> list[dict[str, Any]]:
        found = [json.loads(file.read_bytes()) for file in self._folder.files(".json")]
        return sorted(found, key=lambda look: str(look["looked_at"]))
