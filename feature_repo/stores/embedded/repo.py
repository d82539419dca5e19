"""What the `feast` command registers from this folder; the same objects as `definitions()`."""

import os

from feature_repo.definitions import definitions
from slipway.project import Project

# Feast collects the objects that are names of this module.
globals().update(
    (f"{type(item).__name__}_{item.name}", item)
    for item in definitions(
        Project.load(os.environ["SLIPWAY_PROJECT"]), os.environ["SLIPWAY_FEATURE_VERSION"]
    )
)
