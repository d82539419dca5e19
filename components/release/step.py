"""Release: the champion answers the requests."""

from __future__ import annotations

import os
import signal
from typing import Any

from slipway.errors import UserError
from slipway.step import Step


def release(step: Step, registered: str) -> str:
    """Put the champion of the registry into service; returns its version.

    `registered` is the version that this run registered, champion or not. Where no cluster is
    (`SLIPWAY_MODELS_NAMESPACE` is not set), `slipway serve` takes the champion by itself.
    """
    name = step.project.contract.name
    namespace = os.environ.get("SLIPWAY_MODELS_NAMESPACE")
    step.facts.update(model=name, registered=registered, released=False)
    if not namespace:
        step.facts["served_by"] = "slipway serve"
        step.say("no cluster here: `slipway serve` takes the champion")
        return registered
    with step.importing():
        from components.release.deployed import Deployed
        from components.release.lease import Lease
        from components.release.rollout import roll_out
        from components.release.smoke import reproduce
        from components.release.values import entry_of, of_cluster
        from slipway.registry import CHAMPION, Registry
    registry, model = Registry(step.project), Deployed(name, namespace)
    serving = step.project.contract.serving
    base = of_cluster(name)
    signal.signal(signal.SIGTERM, _interrupt)
    with Lease(model, f"release of the run of version {registered}", step.say) as lease:
        # Asked only now: while this one waited, another run or a rollback changed the champion.
        version = registry.version_of(CHAMPION)
        if version is None:
            raise UserError(
                f"{name} has no champion: version {registered} did not pass its gates.",
                "Look at the report of its evaluation; the gates stand in the contract.",
            )
        if version != registered:
            step.say(f"version {registered} is not the champion; version {version} is")
        package = registry.package(version)
        entry = entry_of(
            step.project.contract,
            version,
            registry.source(version),
            os.environ.get("SLIPWAY_SERVE_IMAGE", ""),
        )

        def prove() -> None:
            url = f"http://{model.predictor(version)}.{namespace}:80"
            difference = reproduce(url, name, package)
            step.say(f"it reproduces its reference predictions to {difference:.1g}")

        changed = roll_out(
            model,
            lease,
            base,
            entry,
            serving.canary.steps,
            serving.canary.hold.total_seconds(),
            prove,
            step.say,
        )
    step.facts.update(
        version=version,
        released=changed,
        uri=entry["storageUri"],
        image=entry["server"]["image"],
        namespace=namespace,
    )
    return version


def _interrupt(*_: Any) -> None:
    """Ends like an exception, so that what was begun is undone."""
    raise SystemExit(128 + signal.SIGTERM)
