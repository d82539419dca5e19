"""Do the locks satisfy the .in files, and one another? Reads files only; `make lock` mends."""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent.parent / "requirements"
SOURCES = {
    "uv.txt": "uv.in",
    "base.lock": "base.in",
    "cuda.lock": "cuda.in",
    "cpu.lock": "cpu.in",
    "dev.lock": "dev.in",
    "fuzz.lock": "fuzz.in",
    "data.lock": "base.in",
    "train.lock": "train.in",
    "serve.lock": "serve.in",
    "tools.lock": "tools.in",
    "sbom.lock": "sbom.in",
}


def lines(name: str) -> list[str]:
    text = (FOLDER / name).read_text().replace("\\\n", "")
    text = re.sub(r"(^|\s+)#.*", "", text, flags=re.M)
    return [line.strip() for line in text.splitlines() if line.strip()]


def problems() -> list[str]:
    found = []
    first: dict[str, set[str]] = {}  # what the first lock that has a package says of it
    for lock, source in SOURCES.items():
        left_out = FOLDER / lock.replace(".lock", ".excludes")
        without = set(lines(left_out.name)) if left_out.exists() else set()
        here: dict[str, set[str]] = {}  # one version for each marker
        for line in lines(lock):
            text, *hashes = line.split(" --hash=")
            if not hashes:
                found.append(f"{lock}: '{line}' has no hash")
                continue
            pin = Requirement(text)
            version = str(pin.specifier).removeprefix("==")
            here.setdefault(canonicalize_name(pin.name), set()).add(version)
        for wanted in map(Requirement, lines(source)):
            if wanted.name in without:
                continue
            has = here.get(canonicalize_name(wanted.name), set())
            # With a marker, the same package may have another line for other machines.
            enough = any if wanted.marker else all
            if not has or not enough(wanted.specifier.contains(v, prereleases=True) for v in has):
                found.append(f"{source} asks for '{wanted}', {lock} has {sorted(has) or 'none'}")
        if unwanted := without & set(here):
            found.append(f"{lock} has {sorted(unwanted)}, {left_out.name} leaves it out")
        for package, has in here.items():
            other = first.setdefault(package, has)
            if other != has:
                found.append(f"{lock}: {package} {sorted(has)}, another lock has {sorted(other)}")
    return found


if __name__ == "__main__":
    if found := problems():
        sys.exit("\n".join([*found, "The locks do not match: run `make lock`."]))
