"""What a Ray cluster runs of the train step, in its head:
`python -m components.train.remote PLACE PROJECT PROJECT_VERSION CODE_VERSION`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from components.train.exchange import fetch, publish, remove
from components.train.kuberay import CANDIDATE, FAILURE, PULSE, RESULT, TRAINING_SET
from components.train.step import train_with_ray
from slipway.code import code_version
from slipway.errors import UserError
from slipway.project import Project
from slipway.step import Step
from slipway.storage import Location, locate

UNWANTED = 300.0
"""Seconds without a pulse of the step after which nobody waits for this training any more."""


def main(uri: str, project: str, project_version: str, code: str) -> None:
    place = locate(uri)
    threading.Thread(target=_end_without_pulse, args=[place], daemon=True).start()
    try:
        _train(place, project, project_version, code)
    except UserError as error:
        (place / FAILURE).write_text(json.dumps({"message": str(error)}))
        print(error, flush=True)
        # Not a code of failure: KubeRay would make a new cluster and run into the same mistake.


def _train(place: Location, path: str, project_version: str, code: str) -> None:
    project = Project.load(path)
    for what, here, there in (
        ("project", project.version, project_version),
        ("code", code_version(), code),
    ):
        if here != there:
            raise UserError(
                f"the train image holds {what} version {here}, the step is of {there}.",
                "Build and push all images of one commit: `make images`.",
            )
    home = project.home.path
    fetch(place / TRAINING_SET, home / TRAINING_SET)
    candidate = home / CANDIDATE
    train_with_ray(Step("train", project), "run", home / TRAINING_SET, candidate, place)
    publish(candidate, place / CANDIDATE, last=RESULT)
    for spent in ("data", "out", "ray", TRAINING_SET):
        remove(place / spent)


def _end_without_pulse(place: Location) -> None:
    """End when the step is gone for good: aborted too hard to say so, or lost with its node."""
    last, seen = b"", time.monotonic()
    while time.monotonic() - seen < UNWANTED:
        time.sleep(UNWANTED / 20)
        try:
            now = (place / PULSE).read_bytes()
        except UserError:  # a store that does not answer proves nothing
            seen = time.monotonic()
            continue
        if now != last:
            last, seen = now, time.monotonic()
    print("nobody waits for this training any more; it ends", flush=True)
    os._exit(0)  # not a failure, after which KubeRay would begin anew


if __name__ == "__main__":
    main(*sys.argv[1:])
