"""What the commands share that work with Kubeflow Pipelines on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._options import context_option, table
from slipway.cli._platform import reach
from slipway.cli.console import Progress
from slipway.errors import UserError

if TYPE_CHECKING:
    from pipelines.connect import Cluster

_ENDPOINT = click.option(
    "--endpoint",
    envvar="KFP_ENDPOINT",
    show_envvar=True,
    default="",
    metavar="URL",
    help="KFP's API.  [default: through the cluster]",
)
_NAMESPACE = click.option(
    "--namespace",
    envvar="SLIPWAY_NAMESPACE",
    default="kubeflow",
    show_default=True,
    help="Where KFP and its runs live.",
)


def on_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where, and passes `cluster`."""

    @_ENDPOINT
    @context_option
    @_NAMESPACE
    @wraps(command)
    def inner(endpoint: str, context: str, namespace: str, **others: Any) -> Any:
        from pipelines.connect import connected
        from slipway.kube import in_pod

        if not endpoint and (context or not in_pod()):
            context = reach(context).context
        with faults(), connected(endpoint, context, namespace) as cluster:
            return command(cluster=cluster, **others)

    return inner


@contextmanager
def faults() -> Iterator[None]:
    """What the two APIs refuse is told in their words."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    from pipelines.api import ApiError

    try:
        yield
    except ApiError as error:
        raise click.ClickException(f"KFP's API: {error}") from None
    except ApiException as error:
        raise click.ClickException(f"Kubernetes: {error.reason} (HTTP {error.status})") from None
    except HTTPError as error:
        raise click.ClickException(f"Kubernetes does not answer: {error}") from None


def identity_of(cluster: Cluster, wanted: str) -> str:
    """The run that `wanted` means: an id, its first digits, a name, or `latest`."""
    known = cluster.api.runs()
    if wanted == "latest" and known:
        return str(known[0]["run_id"])
    found = [
        run["run_id"]
        for run in known
        if run["run_id"].startswith(wanted) or run["display_name"] == wanted
    ]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UserError(f"{len(found)} runs begin with '{wanted}'.", "Give more digits.")
    return wanted


def watch(cluster: Cluster, run: str) -> None:
    """Show a run until it ends, and how it ended. Ctrl-C leaves the run alone."""
    from pipelines.local import StepFailed
    from pipelines.submit import follow

    try:
        with Progress() as progress:
            done = follow(cluster, run, progress)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe run goes on. `slipway runs watch {run}` shows it again, "
            f"`slipway runs terminate {run}` ends it.",
            err=True,
        )
        raise SystemExit(130) from None
    except StepFailed as error:
        raise click.ClickException(str(error)) from None
    show_steps(done)


def show_steps(run: dict[str, Any]) -> None:
    from pipelines.runs import seconds_of, steps

    rows = [[step.name, step.state, _seconds(step.seconds)] for step in steps(run)]
    rows.append(["whole run", run.get("state", "").lower(), _seconds(seconds_of(run))])
    click.echo(table(["step", "state", "seconds"], rows))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
