"""`slipway deploy`: the platform on a cluster, and, on request, its first run and prediction."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._options import context_option, project_option, table
from slipway.cli._platform import (
    gateway_option,
    mirror_option,
    narrator,
    profile_option,
    reach,
    values_option,
)
from slipway.errors import UserError
from slipway.files import write_json

if TYPE_CHECKING:
    from ops.cluster import Cluster
    from ops.platform import Values


@click.command()
@context_option
@profile_option
@values_option
@click.option(
    "--bundle",
    envvar="BUNDLE",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    show_envvar=True,
    help="Folder of `make bundle`: charts and images come from it alone.",
)
@mirror_option
@click.option("--only", multiple=True, metavar="RELEASE", help="This release alone; repeatable.")
@click.option("--kind", "on_kind", is_flag=True, help="On a kind cluster, made if it is not there.")
@click.option("--run", is_flag=True, help="Then run the training pipeline, and score real rows.")
@project_option
@gateway_option
def deploy(
    context: str,
    profile: str,
    values: Path | None,
    bundle: Path | None,
    mirror: str,
    only: tuple[str, ...],
    on_kind: bool,
    run: bool,
    project: Path,
    gateway: str,
) -> None:
    """Install or upgrade the platform on a cluster. Can be repeated at any point."""
    from ops import bundle as bundles
    from ops import deploy as platforms
    from ops import kind, tools
    from ops.cluster import OURS
    from ops.platform import Platform
    from slipway.project import Project

    if on_kind and context not in ("", OURS):
        raise UserError(
            f"--kind installs on the kind cluster, and the context '{context}' is named as well.",
            "Leave one of the two out.",
        )
    signal.signal(signal.SIGTERM, _stop)
    say = narrator()
    loaded = Project.load(project) if run else None
    wanted = Platform.load(profile, values)
    times = platforms.Times()
    try:
        with times.phase("tools"):
            tools.prepare(*tools.wanted(on_kind or kind.is_kind(context or OURS)))
        if bundle:
            with times.phase("bundle check"):
                bundles.check(bundle, profile)
        if on_kind:
            with times.phase("kind"):
                context = kind.create(say)
        cluster = reach(context)
        if bundle:
            with times.phase("bundle"):
                bundles.use(bundle, cluster, say, mirror)
        platforms.deploy(cluster, wanted, say, times, bundle, only)
        facts: dict[str, Any] = {}
        if loaded:
            from slipway.cli._first_run import first_run

            images = platforms.images_file(bundle)
            facts = first_run(cluster, wanted, loaded, gateway, images, say, times)
    except KeyboardInterrupt:
        raise click.ClickException("stopped; the same command goes on from here") from None
    summary = {"context": cluster.context, "profile": profile, "seconds": times.seconds, **facts}
    file = platforms.state_folder(cluster.context) / "summary.json"
    write_json(file, summary)
    click.echo(_table(cluster, wanted.facts, gateway, summary))
    click.echo(f"\n{file}")
    if not run:
        click.echo("next: `slipway submit --wait` trains and releases the model; `slipway status`")


def _stop(number: int, frame: FrameType | None) -> None:
    """Whoever ends us (a CI job that is cancelled) means what Ctrl-C means."""
    raise KeyboardInterrupt


def _table(cluster: Cluster, facts: Values, gateway: str, summary: dict[str, Any]) -> str:
    """Places, logins, seconds."""
    from ops.gateway import address
    from ops.places import places

    try:
        url = address(cluster, facts, gateway)
    except UserError as error:
        url = ""
        click.secho(str(error), fg="yellow", err=True)
    rows = [[one.name, one.url, one.login] for one in places(cluster, facts, url)]
    seconds = [[name, spent] for name, spent in summary["seconds"].items()]
    seconds.append(["in all", round(sum(summary["seconds"].values()), 1)])
    parts = ["", table(["what", "where", "login"], rows), "", table(["phase", "seconds"], seconds)]
    if score := summary.get("score"):
        parts += ["", _scored(score)]
    return "\n".join(parts)


def _scored(score: dict[str, Any]) -> str:
    asked = {"the test window, V2": score["window"]}
    asked |= {f"by key, {name}": found for name, found in score["protocols"].items()}
    rows = [
        [name, found["rows"], found["value"], f"{found['difference']:.1e}"]
        for name, found in asked.items()
    ]
    metric = score["metric"]
    return table([f"through the gateway, {metric}", "rows", metric, "to the embedded rung"], rows)
