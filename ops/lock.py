"""images.lock: every image that a profile can pull, by digest."""

from __future__ import annotations

import yaml

from ops.platform import ROOT
from slipway.errors import UserError


def locked(profile: str) -> list[str]:
    """`name:tag@digest` of each image that the profile's charts and controllers can start.

    Where the lock knows no digest the tag must do.
    """
    file = ROOT / "images.lock"
    if not file.exists():
        raise UserError(f"{file} does not exist.", "Restore it: `git checkout images.lock`.")
    found = yaml.safe_load(file.read_text(encoding="utf-8"))["images"]
    return [
        f"{one['name']}@{one['digest']}"
        if one["digest"] and "@" not in one["name"]
        else one["name"]
        for one in found
        if profile in one["profiles"]
    ]
