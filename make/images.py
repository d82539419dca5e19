"""Builds the images of this commit with what is there: docker, podman, or BuildKit's buildctl.

All choices come from the environment, as the Makefile's variables do:
ENGINE          docker | podman | buildctl; empty: the first of them that works
ROLES           which of data, train, serve and tools; empty: all
IMAGE_REGISTRY  what stands before the role in an image's name
TAG             empty: the commit, with a hash of what is not committed yet
PUSH            1: to IMAGE_REGISTRY; HOST/PATH: there, as a cluster's mirror; empty: nowhere
NETWORK         host: builds use this machine's network, for a proxy or an index on loopback
TORCH           cpu (also for auto) | cuda | none: XGBoost alone; for the train image
BUILDKIT_HOST   where buildctl finds its daemon

Writes .slipway/images.json, what is built by role, and in .slipway/images each role's log, bill of
materials (CycloneDX) and, where buildctl does not push, archive.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ops import oci
from slipway.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".slipway" / "images"
ROLES = ("data", "train", "serve", "tools")
PROBES = {
    "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
    "podman": ["podman", "info", "--format", "{{.Version.Version}}"],
    "buildctl": ["buildctl", "debug", "workers"],
}
PROBE_SECONDS = 60
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FROM_UV = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST": "PIP_TRUSTED_HOST",
}


class Stop(Exception):
    """A sentence for the user, who can mend it."""


@dataclass(frozen=True)
class Choices:
    engine: str
    roles: tuple[str, ...]
    registry: str
    tag: str
    revision: str
    torch: str
    push: str
    """What stands before the role where images are pushed; empty: they are not."""
    host_network: bool

    @classmethod
    def read(cls) -> "Choices":
        roles = tuple(_env("ROLES").replace(",", " ").split()) or ROLES
        if unknown := set(roles) - set(ROLES):
            raise Stop(f"ROLES holds {', '.join(sorted(unknown))}; roles are {', '.join(ROLES)}.")
        torch = {"auto": "cpu", "": "cpu"}.get(_env("TORCH"), _env("TORCH"))
        if torch not in ("cpu", "cuda", "none"):
            raise Stop(f"TORCH is '{torch}' and must be cpu, cuda or none.")
        if _env("NETWORK") not in ("", "host"):
            raise Stop(f"NETWORK is '{_env('NETWORK')}' and must be host or empty.")
        prefix = _env("IMAGE_REGISTRY") or "ghcr.io/slipway"
        revision, tag = version(_env("TAG"))
        if not re.fullmatch(r"\w[\w.-]{0,127}", tag, re.ASCII) or tag == "latest":
            raise Stop(f"TAG is '{tag}': give letters, digits, '.', '_' or '-', and not latest.")
        push = {"1": prefix, "0": ""}.get(_env("PUSH"), _env("PUSH")).rstrip("/")
        return cls(engine(), roles, prefix, tag, revision, torch, push, _env("NETWORK") == "host")


def _env(name: str) -> str:
    return os.environ.get(name, "").strip()


def engine() -> str:
    """The engine asked for, or the first that answers."""
    wanted = _env("ENGINE")
    if wanted and wanted not in PROBES:
        raise Stop(f"ENGINE is '{wanted}' and must be one of {', '.join(PROBES)}.")
    why = []
    for name in [wanted] if wanted else PROBES:
        if not shutil.which(name):
            why.append(f"{name} is not installed")
            continue
        try:
            done = subprocess.run(
                PROBES[name], capture_output=True, text=True, timeout=PROBE_SECONDS
            )
        except subprocess.TimeoutExpired:
            why.append(f"{name} does not answer within {PROBE_SECONDS:g} s")
            continue
        if done.returncode == 0:
            return name
        said = done.stderr.strip().splitlines() or ["no reason given"]
        why.append(f"{name} does not answer ({said[-1]})")
    raise Stop(
        f"No engine to build images with: {'; '.join(why)}. Start Docker or Podman, or name a "
        "BuildKit daemon: make images ENGINE=buildctl BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock"
    )


def version(given: str = "") -> tuple[str, str]:
    """The commit, and the tag for what lies here: 12 digits of it, then a hash if they differ.

    A tag that is given counts, also where there is no commit.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    try:
        revision = git("rev-parse", "HEAD").strip()
        if given or not git("status", "--porcelain").strip():
            return revision, given or revision[:12]
        files = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    except (OSError, subprocess.CalledProcessError):
        if given:
            return "unknown", given
        raise Stop("Not a git checkout: name the version yourself, as TAG=NAME.") from None
    skipped = {line for line in (ROOT / ".dockerignore").read_text().split() if "*" not in line}
    digest = hashlib.sha256()
    for name in sorted(files):
        path = ROOT / name
        first = name.split("/")[0]
        if path.is_file() and first not in skipped and not first.startswith("."):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return revision, f"{revision[:12]}-{digest.hexdigest()[:8]}"


def secrets() -> Iterator[tuple[str, Path]]:
    """Where packages come from: into the build, not into the image."""
    lines = []
    for name, twin in FROM_UV.items():
        if value := _env(name):
            lines += [f"{name}='{value}'", f"{twin}='{value}'"]
    for name in PROXIES:
        if value := _env(name) or _env(name.lower()):
            lines += [f"{name}='{value}'", f"{name.lower()}='{value}'"]
    index = OUT / "index.env"
    index.touch(mode=0o600)
    index.write_text("".join(f"{line}\n" for line in lines))
    yield "index", index
    if _env("SSL_CERT_FILE"):
        yield "ca", Path(_env("SSL_CERT_FILE"))


def bases() -> dict[str, str]:
    """What images are built from, by digest where images.lock knows it."""
    lines = (ROOT / "images" / "bases.env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    lock = (ROOT / "images.lock").read_text()

    def pinned(image: str) -> str:
        known = re.search(rf"^- name: {re.escape(image)}\n  digest: (sha256:\w+)$", lock, re.M)
        return f"{image}@{known[1]}" if known else image

    return {name: _env(name) or pinned(image) for name, image in found.items()}


def command(choices: Choices, role: str, target: str, output: str) -> list[str]:
    """The build of one target. `output` is BuildKit's word for where it goes; for docker and podman
    an image's name is enough."""
    file = f"images/{role}.Containerfile"
    used = (ROOT / file).read_text()
    values = {
        "VERSION": choices.tag,
        "REVISION": choices.revision,
        "TORCH": choices.torch,
    } | bases()
    values = {name: value for name, value in values.items() if f"ARG {name}\n" in used}
    hidden = [f"id={name},src={path}" for name, path in secrets()]
    if choices.engine == "buildctl":
        words = ["buildctl", "build", "--frontend", "dockerfile.v0", "--progress", "plain"]
        words += ["--local", f"context={ROOT}", "--local", f"dockerfile={ROOT / 'images'}"]
        words += ["--opt", f"filename={role}.Containerfile", "--opt", f"target={target}"]
        if choices.host_network:
            words += ["--opt", "force-network-mode=host", "--allow", "network.host"]
        for name, value in values.items():
            words += ["--opt", f"build-arg:{name}={value}"]
        words += ["--output", output, "--metadata-file", str(OUT / f"{role}.{target}.json")]
    else:
        words = [choices.engine, "build", "--file", file, "--target", target]
        words += ["--output", output] if output.startswith("type=") else ["--tag", output]
        if choices.host_network:
            words += ["--network", "host"]
        for name, value in values.items():
            words += ["--build-arg", f"{name}={value}"]
    for secret in hidden:
        words += ["--secret", secret]
    return words if choices.engine == "buildctl" else [*words, str(ROOT)]


@dataclass(frozen=True)
class Built:
    name: str
    tag: str
    digest: str
    """Of what was pushed; empty where nothing was."""
    bytes: int
    """Compressed, where it was pushed or archived; else as the engine stores it."""
    archive: str = ""


def build(choices: Choices, role: str) -> Built:
    log = OUT / f"{role}.log"
    name, tag = f"{choices.registry}/{role}", choices.tag
    there = f"{choices.push}/{role}" if choices.push else ""
    digest, archive = "", ""
    with log.open("w") as stream:

        def run(*words: str) -> None:
            subprocess.run(
                words,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=True,
                cwd=ROOT,
                env=environment,
            )

        # Attestations of Buildx would make an index of each image, over which `kind load` stumbles.
        # Our bill of materials is written below.
        environment = os.environ | {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        if choices.engine == "buildctl":
            output = f"type=image,name={there}:{tag},push=true,oci-mediatypes=true"
            if there and oci.is_local(there):
                output += ",registry.insecure=true"
            if not there:
                archive = str((OUT / f"{role}.tar").relative_to(ROOT))
                output = f"type=oci,dest={ROOT / archive},name={name}:{tag}"
            run(*command(choices, role, "image", output))
            noted = json.loads((OUT / f"{role}.image.json").read_text())
            digest = noted["containerimage.digest"] if there else ""
        else:
            run(*command(choices, role, "image", f"{name}:{tag}"))
            if there:
                digest = _push(choices, f"{name}:{tag}", f"{there}:{tag}", run)
        run(*command(choices, role, "sbom", f"type=local,dest={OUT / f'{role}.sbom'}"))
    (OUT / f"{role}.sbom" / "sbom.json").replace(OUT / f"{role}.cdx.json")
    (OUT / f"{role}.sbom").rmdir()
    if there:
        size = oci.size(there, digest)
    elif archive:
        size = (ROOT / archive).stat().st_size
    else:
        size = int(
            _ask(choices.engine, "image", "inspect", "--format", "{{.Size}}", f"{name}:{tag}")
        )
    return Built(name, tag, digest, size, archive)


def _push(choices: Choices, name: str, there: str, run) -> str:  # type: ignore[no-untyped-def]
    if name != there:
        run(choices.engine, "tag", name, there)
    insecure = ["--tls-verify=false"] if choices.engine == "podman" and oci.is_local(there) else []
    run(choices.engine, "push", *insecure, there)
    return oci.digest(there)


def _ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    choices = Choices.read()
    where = f", pushed to {choices.push}" if choices.push else ""
    print(f"Images {choices.registry}/ROLE:{choices.tag}, built by {choices.engine}{where}")
    book = ROOT / ".slipway" / "images.json"
    made = read_json(book) if book.exists() else {}
    for role in choices.roles:
        start = time.monotonic()
        print(f"  {role:<6} ", end="", flush=True)
        try:
            built = build(choices, role)
        except subprocess.CalledProcessError:
            log = OUT / f"{role}.log"
            print("failed", *log.read_text(errors="replace").splitlines()[-25:], sep="\n")
            print(
                f"images: {role} was not built; the whole log is {log.relative_to(ROOT)}",
                file=sys.stderr,
            )
            return 1
        made[role] = asdict(built)
        write_json(book, made)
        seconds = time.monotonic() - start
        print(f"{built.bytes / 1e6:7.0f} MB {seconds:5.0f} s  {built.digest}".rstrip())
    print(f"Noted in {book.relative_to(ROOT)}; bills of materials are in {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Stop, oci.RegistryError) as problem:
        print(f"images: {problem}", file=sys.stderr)
        sys.exit(2 if isinstance(problem, Stop) else 1)
    except KeyboardInterrupt:
        print("\nimages: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
