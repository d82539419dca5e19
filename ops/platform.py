"""What a deployment consists of: releases.yaml, a profile, and the user's folder laid over both.

`charts/helmfile.yaml.gotmpl` reads the same files; here they are checked before anything starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slipway.errors import UserError

ROOT = Path(__file__).parents[1]
CHARTS = ROOT / "charts"
PROFILES = ("laptop", "team", "production")
Values = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """One Helm release."""

    name: str
    namespace: str
    component: str
    timeout: int
    chart: str = ""
    """Folder of ours in charts/; empty for a third-party chart."""
    vendor: str = ""
    """Key in third-party.yaml."""
    needs: tuple[str, ...] = ()
    images: dict[str, str] = field(default_factory=dict)
    """Where our own images stand in its values: path -> role."""


@dataclass(frozen=True)
class Platform:
    """A profile with the user's changes."""

    profile: str
    folder: Path | None
    """The user's values."""
    facts: Values
    """profile.yaml: domain, url, gateway, components."""
    releases: tuple[Release, ...]
    """Those that are managed here, each after what it needs."""
    components: dict[str, Values]
    """What each component must get from outside where it is not managed."""

    @classmethod
    def load(cls, profile: str, folder: Path | None = None) -> Platform:
        """Raises `UserError` for a profile or a folder that is wrong or does not fit together."""
        if profile not in PROFILES:
            raise UserError(
                f"there is no profile '{profile}'.", f"Choose one of {', '.join(PROFILES)}."
            )
        if folder and not folder.is_dir():
            raise UserError(f"{folder} is no folder.", "Name your folder of values with VALUES=.")
        components = _read(CHARTS / "releases.yaml")["components"]
        facts = _read(CHARTS / "profiles" / profile / "profile.yaml")
        if folder and (mine := folder / "profile.yaml").exists():
            facts = merged(facts, _read(mine))
        releases = _listed()
        _check_components(facts, set(components), profile, folder)
        if folder:
            _check_files(folder, {release.name for release in releases})
        managed = [one for one in releases if facts["components"][one.component]["managed"]]
        platform = cls(profile, folder, facts, tuple(_ordered(managed)), components)
        platform._check_given()
        return platform

    @property
    def unmanaged(self) -> list[str]:
        return [name for name, switch in self.facts["components"].items() if not switch["managed"]]

    def releases_with(self, names: Iterable[str]) -> list[Release]:
        """Also those of these names that are not managed here (any more), in order."""
        wanted = {release.name for release in self.releases} | set(names)
        return list(_ordered([release for release in _listed() if release.name in wanted]))

    def value_files(self, release: str, images: Path | None = None) -> list[Path]:
        """Values files of a release that exist, later ones win; `images`: the generated ones."""
        folders = [CHARTS / "profiles" / "common", CHARTS / "profiles" / self.profile]
        folders += [folder for folder in (images, self.folder) if folder]
        return [file for one in folders if (file := one / f"{release}.yaml").exists()]

    def given(self, release: str) -> Values:
        """What the profile and the user's folder say together. Neither the chart's own defaults are
        in it nor what is common to all profiles: both name services of ours."""
        found: Values = {}
        for file in self.value_files(release):
            if file.parent != CHARTS / "profiles" / "common":
                found = merged(found, _read(file))
        return found

    def _check_given(self) -> None:
        """Whoever used a service that is not managed here must have been told of another."""
        kept = {release.name for release in self.releases}
        for component in self.unmanaged:
            for release, paths in self.components[component].get("values", {}).items():
                if release not in kept:
                    continue
                values = self.given(release)
                # An empty one was said: an endpoint of "" is the region's own S3.
                if missing := [path for path in paths if _at(values, path) is None]:
                    raise UserError(
                        f"{component} is not managed here, and {release} is not told what to use "
                        f"instead: {', '.join(missing)}.",
                        f"Give it in {release}.yaml of your VALUES folder.",
                    )


def merged(under: Values, over: Values) -> Values:
    """As Helm merges values: mappings key by key, everything else replaced."""
    result = dict(under)
    for key, value in over.items():
        known = result.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result


def vendors() -> dict[str, Values]:
    """Third-party charts by key: repository, name, version, sha256."""
    charts: dict[str, Values] = _read(CHARTS / "third-party.yaml")["charts"]
    return charts


def image_values(release: Release, images: dict[str, Values]) -> Values:
    """Values that put the built images (`{role: {name, tag, digest}}`) where the release has them.

    Raises `UserError` where a role was not built.
    """
    found: Values = {}
    for path, role in release.images.items():
        if role not in images:
            raise UserError(
                f"{release.name} needs the image '{role}', which was not built.",
                "Run `make images`.",
            )
        image = images[role]
        kept = {"repository": image["name"], "tag": image["tag"]}
        if image.get("digest"):
            kept["digest"] = image["digest"]
        inner: Values = kept
        for key in reversed(path.split(".")):
            inner = {key: inner}
        found = merged(found, inner)
    return found


def _listed() -> list[Release]:
    """Every release that there is."""
    found = _read(CHARTS / "releases.yaml")["releases"]
    return [Release(**{**one, "needs": tuple(one.get("needs", ()))}) for one in found]


def _ordered(releases: list[Release]) -> Iterator[Release]:
    """Each after those it needs; a need that is not managed here is taken as given."""
    waiting = {release.name: release for release in releases}
    while waiting:
        ready = [r for r in waiting.values() if not any(need in waiting for need in r.needs)]
        if not ready:
            raise UserError(
                f"charts/releases.yaml: {', '.join(waiting)} need one another.",
                "Break the circle.",
            )
        for release in ready:
            del waiting[release.name]
            yield release


def _check_components(facts: Values, known: set[str], profile: str, folder: Path | None) -> None:
    place = f"{folder}/profile.yaml" if folder else f"charts/profiles/{profile}/profile.yaml"
    given = facts["components"]
    if unknown := sorted(set(given) - known):
        raise UserError(
            f"{place}: there is no component {', '.join(unknown)}.",
            f"Known are {', '.join(sorted(known))}.",
        )
    for name, switch in given.items():
        if not isinstance(switch, dict) or not isinstance(switch.get("managed"), bool):
            raise UserError(
                f"{place}: components.{name} is not understood.",
                f"Write `{name}: {{managed: true}}` or false.",
            )
    if missing := sorted(known - set(given)):
        raise UserError(f"{place}: components lacks {', '.join(missing)}.", "Add them.")


def _check_files(folder: Path, releases: set[str]) -> None:
    for file in sorted(folder.glob("*.y*ml")):
        if file.suffix != ".yaml" or file.stem not in {"profile", *releases}:
            raise UserError(
                f"{file}: there is no release of this name.",
                f"A file here is profile.yaml, or RELEASE.yaml of {', '.join(sorted(releases))}.",
            )
        _read(file)


def _read(file: Path) -> Values:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is no YAML: {reason}.", "Correct it.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{file}: this is a {type(found).__name__}, not `key: value` lines.")
    return found


def _at(values: Values, path: str) -> Any:
    here: Any = values
    for key in path.split("."):
        here = here.get(key) if isinstance(here, dict) else None
    return here


def packages() -> Path:
    """Folder of the third-party charts as packages NAME-VERSION.tgz."""
    return Path(os.environ.get("SLIPWAY_CHARTS") or ROOT / ".slipway" / "charts").resolve()
