"""Writes what an image holds as a CycloneDX bill of materials: Python, its packages and Debian's.

    python sbom.py NAME VERSION VENV DPKG-STATUS OUTPUT [NAME=VERSION]...

It runs while the image is built, in an environment of its own, made of the image's Python.
"""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def python() -> Component:
    """Compiled into the base image, so no package manager knows it."""
    version = platform.python_version()
    return Component(
        name="python",
        version=version,
        type=ComponentType.APPLICATION,
        purl=PackageURL("generic", name="python", version=version),
    )


def python_packages(venv: Path) -> Iterator[Component]:
    [site] = venv.glob("lib/python*/site-packages")
    for found in distributions(path=[str(site)]):
        name, text = found.metadata["Name"], found.metadata["License-Expression"]
        yield Component(
            name=name,
            version=found.version,
            purl=PackageURL("pypi", name=name.lower().replace("_", "-"), version=found.version),
            licenses=[LicenseFactory().make_from_string(text)] if text else [],
        )


def debian_packages(status: Path) -> Iterator[Component]:
    for block in status.read_text().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line[:1] != " " and ": " in line
        )
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            where = {"arch": fields["Architecture"]}
            yield Component(
                name=name,
                version=version,
                purl=PackageURL("deb", "debian", name, version, where),
            )


def main(name: str, version: str, venv: str, status: str, output: str, *others: str) -> None:
    bom = Bom()
    bom.metadata.component = Component(
        name=name, version=version, type=ComponentType.CONTAINER, bom_ref=name
    )
    for component in (python(), *python_packages(Path(venv)), *debian_packages(Path(status))):
        bom.components.add(component)
    for other in others:
        program, _, release = other.partition("=")
        bom.components.add(Component(name=program, version=release, type=ComponentType.APPLICATION))
    Path(output).write_text(JsonV1Dot6(bom).output_as_string(indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
