"""`ops secrets` against a real API server: twice, at the same time, after losses, beside yours."""

import base64
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from kubernetes import client, config

from ops.secrets import apply, load
from slipway.errors import UserError


@pytest.fixture
def api(cluster):
    return client.CoreV1Api(config.new_client_from_config(context=cluster.context))


@pytest.fixture
def spaces(api):
    """Two namespaces of this test's own."""
    made = [f"slipway-test-{secrets.token_hex(3)}-{end}" for end in "ab"]
    for name in made:
        api.create_namespace({"metadata": {"name": name}})
    yield made
    for name in made:
        api.delete_namespace(name)


@pytest.fixture
def spec(spaces, tmp_path):
    a, b = spaces
    declared = {
        "master": {"namespace": a, "name": "master"},
        "passwords": {"root": {}, "app": {}},
        "secrets": [
            {"namespace": a, "name": "database", "keys": {"root": "${root}", "app": "${app}"}},
            {"namespace": b, "name": "client", "keys": {"url": "mysql://app:${app|url}@db"}},
        ],
    }
    (tmp_path / "secrets.yaml").write_text(yaml.safe_dump(declared))
    return load(tmp_path / "secrets.yaml")


def read(api, spaces):
    """Every secret: name -> data, decoded."""
    return {
        found.metadata.name: {k: base64.b64decode(v).decode() for k, v in found.data.items()}
        for space in spaces
        for found in api.list_namespaced_secret(space).items
    }


def versions(api, spaces):
    return {
        found.metadata.name: found.metadata.resource_version
        for space in spaces
        for found in api.list_namespaced_secret(space).items
    }


def test_a_second_run_touches_nothing_and_no_value_is_printed(api, spaces, spec, capsys):
    apply(spec, api)
    made, before = read(api, spaces), versions(api, spaces)
    assert made["database"] == made["master"]
    assert made["client"]["url"] == f"mysql://app:{made['master']['app']}@db"
    apply(spec, api)
    assert versions(api, spaces) == before
    said = capsys.readouterr().out
    assert "database: made (app, root)" in said or "database: made (root, app)" in said
    assert not any(value in said for value in made["master"].values())


def test_runs_at_the_same_time_agree_on_one_password(cluster, api, spaces, spec):
    apis = [
        client.CoreV1Api(config.new_client_from_config(context=cluster.context)) for _ in range(6)
    ]
    with ThreadPoolExecutor(len(apis)) as pool:
        list(pool.map(lambda one: apply(spec, one), apis))
    made = read(api, spaces)
    assert made["database"] == made["master"]
    assert made["client"]["url"] == f"mysql://app:{made['master']['app']}@db"


def test_what_was_lost_comes_back_with_the_old_passwords(api, spaces, spec):
    apply(spec, api)
    made = read(api, spaces)
    api.delete_namespaced_secret("master", spaces[0])
    api.delete_namespaced_secret("client", spaces[1])
    api.patch_namespaced_secret("database", spaces[0], {"data": {"app": None}})
    # `app` stood in three places, and all three are gone: that one must be made anew.
    apply(spec, api)
    mended = read(api, spaces)
    assert mended["master"]["root"] == mended["database"]["root"] == made["master"]["root"]
    assert mended["master"]["app"] == mended["database"]["app"] != made["master"]["app"]
    # With the database's secret whole, nothing is.
    api.delete_namespaced_secret("master", spaces[0])
    apply(spec, api)
    assert read(api, spaces) == mended


def test_yours_is_left_alone_and_a_missing_key_stops_before_anything_is_written(api, spaces, spec):
    b = spaces[1]
    api.create_namespaced_secret(b, {"metadata": {"name": "client"}, "stringData": {"uri": "mine"}})
    with pytest.raises(UserError, match=f"Secret {b}/client was not made by Slipway and lacks"):
        apply(spec, api)
    assert set(read(api, spaces)) == {"client"}
    api.patch_namespaced_secret("client", b, {"stringData": {"url": "mine"}})
    apply(spec, api)
    assert read(api, spaces)["client"] == {"uri": "mine", "url": "mine"}


def test_a_namespace_that_is_not_there_is_a_sentence(api, spaces, spec):
    gone = spec.model_copy(update={"master": spec.master.model_copy(update={"namespace": "gone"})})
    with pytest.raises(UserError, match="there is no namespace gone"):
        apply(gone, api)
