"""What a registry says of an image, digest and size: the OCI distribution API, without a login."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

MANIFESTS = ", ".join(
    f"application/{kind}"
    for kind in (
        "vnd.oci.image.index.v1+json",
        "vnd.docker.distribution.manifest.list.v2+json",
        "vnd.oci.image.manifest.v1+json",
        "vnd.docker.distribution.manifest.v2+json",
    )
)
TIMEOUT = 20
PLATFORM = {"os": "linux", "architecture": "amd64"}


class RegistryError(Exception):
    """Why there is no answer, in a sentence."""


def split(image: str) -> tuple[str, str, str]:
    """Host, repository and tag or digest of a full name such as `ghcr.io/acme/app:1.0`."""
    host, _, rest = image.partition("/")
    repository, _, digest = rest.partition("@")
    if digest:
        return host, re.sub(r":[\w.-]+$", "", repository), digest
    repository, _, tag = rest.rpartition(":")
    return host, repository, tag


def is_local(image: str) -> bool:
    return re.match(r"(localhost|127\.[0-9.]+|\[::1\])(:|/)", image) is not None


def digest(image: str) -> str:
    """The digest of what a tag names: of the index, where there are several platforms."""
    host, repository, tag = split(image)
    with _open(host, f"/v2/{repository}/manifests/{tag}", "HEAD") as answer:
        found = answer.headers.get("Docker-Content-Digest")
    if not found:
        raise RegistryError(f"{host} does not name the digest of {image}")
    return str(found)


def size(repository: str, reference: str) -> int:
    """Bytes to pull for linux/amd64: configuration and layers, compressed."""
    host, _, name = repository.partition("/")
    with _open(host, f"/v2/{name}/manifests/{reference}", "GET") as answer:
        manifest: dict[str, Any] = json.load(answer)
    if "manifests" in manifest:
        here = [
            item["digest"]
            for item in manifest["manifests"]
            if PLATFORM.items() <= item.get("platform", {}).items()
        ]
        if not here:
            raise RegistryError(f"{repository}@{reference} has nothing for linux/amd64")
        return size(repository, here[0])
    return sum(int(part["size"]) for part in (manifest["config"], *manifest["layers"]))


def _open(host: str, path: str, method: str) -> Any:
    api = {"docker.io": "registry-1.docker.io"}.get(host, host)
    url = f"{'http' if is_local(f'{host}/') else 'https'}://{api}{path}"
    headers = {"Accept": MANIFESTS}
    try:
        try:
            return _request(url, method, headers)
        except urllib.error.HTTPError as refused:
            challenge = refused.headers.get("WWW-Authenticate", "")
            if refused.code != 401 or not challenge.lower().startswith("bearer "):
                raise
        return _request(url, method, headers | {"Authorization": f"Bearer {_token(challenge)}"})
    except urllib.error.HTTPError as refused:
        raise RegistryError(f"{host} answers {refused.code} {refused.reason}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RegistryError(f"{host} cannot be reached: {reason}") from None


def _token(challenge: str) -> str:
    """An anonymous one, from where the registry says."""
    said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({k: v for k, v in said.items() if k in ("service", "scope")})
    with _request(f"{said['realm']}?{query}", "GET", {}) as answer:
        given = json.load(answer)
    return str(given.get("token") or given["access_token"])


def _request(url: str, method: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310
    return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
