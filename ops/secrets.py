"""Make the passwords of an installation, and the secrets that hold them.

    python -m ops secrets /etc/slipway/secrets.yaml

The file declares passwords and the secrets that are filled with them. Passwords live in one master
secret. What is missing there is generated, what is there is never changed; all other secrets of
ours follow it. A secret that somebody else made is left alone, and must have every key.

Runs in a pod, with its account; may run twice at the same time. Prints no value.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from slipway.errors import UserError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

OURS = {"app.kubernetes.io/managed-by": "slipway-secrets", "app.kubernetes.io/part-of": "slipway"}
"""Labels of a secret that was made here, and so follows the declaration."""

_LETTERS = string.ascii_letters + string.digits
"""Of passwords: they stand in URIs and in JSON as they are."""
_LENGTH = 32
_ROUNDS = 5
"""How often somebody else may change a secret while it is being written."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Password(_Strict):
    """`given`: not generated; a person puts it into the master secret before the installation."""

    given: bool = False


class Place(_Strict):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Declared(_Strict):
    """A secret; its keys are templates: `${name}` is a password, `${name|url}` quoted for a URI."""

    namespace: str
    name: str
    keys: dict[str, str]
    annotations: dict[str, str] = {}

    @property
    def place(self) -> Place:
        return Place(namespace=self.namespace, name=self.name)


class Spec(_Strict):
    """The file."""

    master: Place
    passwords: dict[str, Password]
    secrets: tuple[Declared, ...]


@dataclass(frozen=True)
class Secret:
    """A secret of the cluster, decoded."""

    data: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    ours: bool = True
    version: str | None = None
    """What the API server compares when it is written; None for one that is not there yet."""


@dataclass(frozen=True)
class Write:
    """A secret to create or replace, and what to tell about it."""

    place: Place
    secret: Secret
    told: str


class _Keys(Template):
    idpattern = "[a-z][a-z0-9-]*"
    braceidpattern = r"[a-z][a-z0-9-]*(?:\|url)?"


class _Conflict(Exception):
    """Somebody else was faster."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops secrets", description=__doc__)
    parser.add_argument("spec", type=Path, help="the YAML file that declares them")
    spec = load(parser.parse_args(argv).spec)

    from urllib3.exceptions import HTTPError

    try:
        apply(spec, _api())
    except HTTPError as error:
        print(f"error: the API server cannot be reached ({error})", file=sys.stderr)
        return 1
    return 0


def load(path: Path) -> Spec:
    """The declaration in a file. Raises `UserError` for one that is not right."""
    try:
        spec = Spec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg'].lower()}.") from None
    for declared in spec.secrets:
        for key, text in declared.keys.items():
            template = _Keys(text)
            names = {name.removesuffix("|url") for name in template.get_identifiers()}
            unknown = names - spec.passwords.keys()
            if unknown or not template.is_valid():
                raise UserError(
                    f"{path}: {declared.place}: {key}: "
                    + (f"no password is called {min(unknown)}." if unknown else "a stray `$`."),
                    "List it under `passwords`." if unknown else "Write `$$` for a dollar sign.",
                )
    return spec


def apply(spec: Spec, api: CoreV1Api) -> None:
    """Bring the cluster to what `spec` declares, and print what was done."""
    places = [spec.master, *(declared.place for declared in spec.secrets)]
    for _ in range(_ROUNDS):
        found = {place: _read(api, place) for place in places}
        try:
            for write in plan(spec, found):
                _write(api, write)
                print(f"{write.place}: {write.told}", flush=True)
        except _Conflict:
            continue
        break
    else:
        raise RuntimeError(f"secrets changed under this command {_ROUNDS} times; run it again")
    for declared in spec.secrets:
        secret = found[declared.place]
        if secret and not secret.ours:
            print(f"{declared.place}: left as it is: it was not made by Slipway")
    print(f"{len(spec.secrets)} secrets are in place")


def plan(spec: Spec, found: Mapping[Place, Secret | None]) -> list[Write]:
    """What must be written. Raises `UserError`, before anything is, for what a person must add."""
    master = found[spec.master]
    passwords = dict(master.data) if master else {}
    missing = [name for name in spec.passwords if not passwords.get(name)]
    if given := [name for name in missing if spec.passwords[name].given]:
        raise UserError(
            f"Secret {spec.master} lacks {_keys(given)}, yours to give.",
            f"Run: {_add(spec.master, given, there=master is not None)}",
        )
    for name in missing:
        passwords[name] = _held(name, spec, found) or _generated()
    writes = []
    if missing:
        told = f"{'completed' if master else 'made'} ({', '.join(missing)})"
        version = master.version if master else None
        annotations = master.annotations if master else {}
        writes.append(Write(spec.master, Secret(passwords, annotations, version=version), told))
    for declared in spec.secrets:
        write = _follow(declared, found[declared.place], passwords)
        if write:
            writes.append(write)
    return writes


def _follow(declared: Declared, there: Secret | None, passwords: Mapping[str, str]) -> Write | None:
    """What brings one secret to its declaration."""
    place = declared.place
    if there and not there.ours:
        if lacking := [key for key in declared.keys if key not in there.data]:
            raise UserError(
                f"Secret {place} was not made by Slipway and lacks {_keys(lacking)}.",
                f"Run: {_add(place, lacking, there=True)}; or delete the secret, and Slipway "
                "makes it.",
            )
        return None
    values = {**passwords, **{f"{name}|url": quote(it, safe="") for name, it in passwords.items()}}
    data = {key: _Keys(text).substitute(values) for key, text in declared.keys.items()}
    if there is None:
        told = f"made ({', '.join(data)})"
        return Write(place, Secret(data, declared.annotations), told)
    changed = [key for key, value in data.items() if there.data.get(key) != value]
    annotations = {**there.annotations, **declared.annotations}
    if not changed and annotations == there.annotations:
        return None
    told = f"brought up to date ({', '.join(changed) or 'annotations'})"
    secret = Secret({**there.data, **data}, annotations, version=there.version)
    return Write(place, secret, told)


def _held(name: str, spec: Spec, found: Mapping[Place, Secret | None]) -> str | None:
    """A password that the master secret has lost, from a secret of ours that still holds it.

    To generate it anew would lock out everybody: the database, for one, knows the old one.
    """
    for declared in spec.secrets:
        there = found[declared.place]
        for key, text in declared.keys.items():
            if there and there.ours and text == f"${{{name}}}" and there.data.get(key):
                return there.data[key]
    return None


def _generated() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))


def _keys(names: list[str]) -> str:
    return f"the key{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _add(place: Place, keys: list[str], *, there: bool) -> str:
    """The command that adds keys to a secret."""
    if there:
        patch = json.dumps({"stringData": dict.fromkeys(keys, "VALUE")})
        return f"kubectl -n {place.namespace} patch secret {place.name} -p '{patch}'"
    literals = " ".join(f"--from-literal={key}=VALUE" for key in keys)
    return f"kubectl -n {place.namespace} create secret generic {place.name} {literals}"


def _api() -> CoreV1Api:
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise UserError(
            f"This is no pod ({error}).", "charts/foundation runs it as a Job."
        ) from None
    return client.CoreV1Api()


def _read(api: CoreV1Api, place: Place) -> Secret | None:
    from kubernetes.client import ApiException

    try:
        there = api.read_namespaced_secret(place.name, place.namespace)
    except ApiException as error:
        if error.status == 404:
            return None
        raise _explained(error, "read", place) from None
    labels = there.metadata.labels or {}
    return Secret(
        {key: base64.b64decode(value).decode() for key, value in (there.data or {}).items()},
        there.metadata.annotations or {},
        OURS.items() <= labels.items(),
        there.metadata.resource_version,
    )


def _write(api: CoreV1Api, write: Write) -> None:
    from kubernetes.client import ApiException

    place, secret = write.place, write.secret
    body: dict[str, Any] = {
        "metadata": {
            "name": place.name,
            "labels": OURS,
            "annotations": dict(secret.annotations),
            "resourceVersion": secret.version,
        },
        "stringData": dict(secret.data),
    }
    try:
        if secret.version is None:
            api.create_namespaced_secret(place.namespace, body)
        else:
            api.replace_namespaced_secret(place.name, place.namespace, body)
    except ApiException as error:
        # 404: one that is replaced was deleted meanwhile; one that is created has no namespace.
        if error.status == 409 or (error.status == 404 and secret.version):
            raise _Conflict from None
        raise _explained(error, "write", place) from None


def _explained(error: Exception, action: str, place: Place) -> Exception:
    status = getattr(error, "status", None)
    if status == 404:
        return UserError(
            f"Secret {place}: there is no namespace {place.namespace}.",
            "List it in `namespaces` of charts/foundation.",
        )
    if status in (401, 403):
        return UserError(
            f"Secret {place}: this account may not {action} it.",
            "Run it as an administrator, or give its role the right.",
        )
    return error
