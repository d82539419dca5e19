"""charts/storage: each store by itself, what outlives a restart, and the Jobs that furnish them."""

from __future__ import annotations

import pytest
import yaml

from tests.charts.render import fails, profiles, render, template

IMAGE = {"image": {"tag": "abc"}}
STORES = ("mariadb", "valkey", "seaweedfs")


def storage(**values):
    return template("storage", {**IMAGE, **values}, namespace="storage")


def of(objects, kind, name=None):
    return [
        found
        for found in objects
        if found["kind"] == kind and name in (None, found["metadata"]["name"])
    ]


def pod(objects, name):
    (found,) = of(objects, "StatefulSet", name) or of(objects, "Job", name)
    return found["spec"]["template"]["spec"]


def container(objects, name):
    (only,) = pod(objects, name)["containers"]
    return only


def names(objects):
    return {(found["kind"], found["metadata"]["name"]) for found in objects}


def test_each_store_answers_under_the_address_that_all_others_know():
    ports = {"mariadb": 3306, "valkey": 6379, "seaweedfs": 9000}
    objects = storage()
    for service in of(objects, "Service"):
        name = service["metadata"]["name"]
        (port,) = service["spec"]["ports"]
        (of_pod,) = container(objects, name)["ports"]
        assert port["port"] == of_pod["containerPort"] == ports.pop(name)
        assert port["targetPort"] == of_pod["name"]
        (stateful,) = of(objects, "StatefulSet", name)
        labels = stateful["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
    assert not ports


@pytest.mark.parametrize("store", STORES)
def test_a_store_that_you_bring_leaves_nothing_of_ours(store):
    setup = {"databases": {"enabled": False}, "buckets": {"enabled": False}}
    left = names(storage(**{store: {"enabled": False}}, setup=setup))
    assert left == {item for item in names(storage(setup=setup)) if item[1] != store}


@pytest.mark.parametrize("store", STORES)
def test_one_pod_at_a_time_owns_the_volume_and_has_time_to_end(store):
    objects = storage()
    (stateful,) = of(objects, "StatefulSet", store)
    assert stateful["spec"]["replicas"] == 1
    data = [v for v in pod(objects, store)["volumes"] if v["name"] == "data"]
    assert data == [{"name": "data", "persistentVolumeClaim": {"claimName": store}}]
    assert pod(objects, store)["terminationGracePeriodSeconds"] >= 30
    # OrderedReady leaves a pod with a wrong image for ever, also after the image is mended.
    assert stateful["spec"]["podManagementPolicy"] == "Parallel"
    # Not a template of the StatefulSet, whose size could never change.
    assert "volumeClaimTemplates" not in stateful["spec"]


@pytest.mark.parametrize("store", STORES)
def test_volumes_have_the_size_and_class_that_are_given_and_stay_where_asked(store):
    (claim,) = of(storage(), "PersistentVolumeClaim", store)
    assert "storageClassName" not in claim["spec"]
    assert "annotations" not in claim["metadata"]
    persistence = {"size": "7Gi", "storageClass": "fast", "keep": True}
    (claim,) = of(storage(**{store: {"persistence": persistence}}), "PersistentVolumeClaim", store)
    assert claim["spec"]["resources"] == {"requests": {"storage": "7Gi"}}
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("store", STORES)
def test_pods_hold_no_token_and_no_password_in_a_manifest(store):
    objects = storage()
    spec = pod(objects, store)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, (
        "MARIADB_PORT would be one of MariaDB's own settings"
    )
    for env in container(objects, store).get("env", []):
        if "PASSWORD" in env["name"] or "AUTH" in env["name"]:
            assert "valueFrom" in env or env["value"].startswith("/run/secrets/")


def test_a_commit_is_on_disk_before_it_is_answered():
    (config,) = of(storage(), "ConfigMap", "mariadb")
    lines = config["data"]["slipway.cnf"].splitlines()
    assert lines[0] == "[mariadbd]"
    assert "innodb_flush_log_at_trx_commit = 1" in lines
    assert "log_warnings = 1" in lines
    assert "performance_schema = OFF" in lines


def test_settings_of_the_database_can_be_changed_added_and_dropped():
    settings = {"max_connections": 9, "sort_buffer_size": "4M", "performance_schema": None}
    (config,) = of(storage(mariadb={"settings": settings}), "ConfigMap", "mariadb")
    text = config["data"]["slipway.cnf"]
    assert "max_connections = 9\n" in text
    assert "sort_buffer_size = 4M" in text
    assert "performance_schema" not in text


@pytest.mark.parametrize(
    ("store", "change"),
    [("mariadb", {"settings": {"max_connections": 9}}), ("valkey", {"maxmemory": "1gb"})],
)
def test_a_changed_configuration_restarts_its_pod_and_no_other(store, change):
    def templates(objects):
        return {s["metadata"]["name"]: s["spec"]["template"] for s in of(objects, "StatefulSet")}

    before, after = templates(storage()), templates(storage(**{store: change}))
    assert {name for name in STORES if before[name] != after[name]} == {store}


@pytest.mark.parametrize(
    ("durability", "wanted", "unwanted"),
    [("aof", "appendonly yes\nappendfsync everysec\n", "save 900"), ("rdb", "save 900", "fsync")],
)
def test_the_online_store_writes_as_it_is_told_and_never_drops_a_feature(
    durability, wanted, unwanted
):
    (config,) = of(storage(valkey={"durability": durability}), "ConfigMap", "valkey")
    text = config["data"]["valkey.conf"]
    assert wanted in text
    assert unwanted not in text
    assert "maxmemory-policy noeviction" in text
    assert "aclfile /run/secrets/valkey/users.acl" in text


@pytest.mark.parametrize("profile", profiles())
def test_the_online_store_fits_into_its_memory_twice(profile):
    """While it rewrites its file, changed pages exist twice."""
    objects = render("storage", profile, IMAGE)
    (config,) = of(objects, "ConfigMap", "valkey")
    size = dict(line.split(" ", 1) for line in config["data"]["valkey.conf"].splitlines())
    units = {"mb": 2**20, "gb": 2**30, "Mi": 2**20, "Gi": 2**30}
    limit = container(objects, "valkey")["resources"]["limits"]["memory"]
    maxmemory = size["maxmemory"]
    assert int(limit[:-2]) * units[limit[-2:]] >= 2 * int(maxmemory[:-2]) * units[maxmemory[-2:]]


def test_the_object_store_shows_nothing_but_its_s3_and_phones_nobody():
    args = container(storage(), "seaweedfs")["args"]
    # The filer and the volumes ask for no key.
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(args)
    assert {"-s3.config=/run/secrets/s3/identities.json", "-s3.iam=false"} <= set(args)
    assert "-master.telemetry=false" in args
    assert not any(arg.startswith("-metrics") for arg in args)


def test_metrics_of_the_object_store_are_served_and_watched_on_request():
    assert not of(storage(), "ServiceMonitor")
    objects = storage(seaweedfs={"serviceMonitor": {"enabled": True, "interval": "9s"}})
    (monitor,) = of(objects, "ServiceMonitor")
    (service,) = of(objects, "Service", "seaweedfs")
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "interval": "9s"}]
    assert "metrics" in [port["name"] for port in service["spec"]["ports"]]
    assert "-metricsPort=9327" in container(objects, "seaweedfs")["args"]


def test_jobs_furnish_the_stores_after_each_installation():
    objects = storage()
    databases, buckets = (container(objects, f"storage-{n}") for n in ("databases", "buckets"))
    (config,) = of(objects, "ConfigMap", "storage-databases")
    spec = yaml.safe_load(config["data"]["databases.yaml"])
    users = {(item["name"], item["user"]) for item in spec["databases"]}
    assert users == {
        ("mlpipeline", "kfp"),
        ("metadb", "kfp"),
        ("mlflow", "mlflow"),
        ("feast", "feast"),
    }
    assert spec["host"] == "mariadb.storage"
    assert databases["args"][0] == "databases"
    wanted = ["mlpipeline", "slipway", "mlflow", "payloads", "backups"]
    assert buckets["args"] == ["buckets", "--seconds", "240", *wanted]
    env = {item["name"]: item for item in buckets["env"]}
    assert env["AWS_ENDPOINT_URL"]["value"] == "http://seaweedfs.storage:9000"
    for job in of(objects, "Job"):
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
        policy = job["spec"]["podFailurePolicy"]["rules"][0]
        assert policy["onExitCodes"]["values"] == [2], "a mistake is not tried again"
        assert job["spec"]["activeDeadlineSeconds"] > 240


def test_jobs_work_on_stores_that_you_bring():
    setup = {
        "databases": {"host": "db.example.com", "admin": "master"},
        "buckets": {"endpoint": "", "region": "eu-central-1"},
    }
    off = {"enabled": False}
    objects = storage(mariadb=off, seaweedfs=off, setup=setup)
    (config,) = of(objects, "ConfigMap", "storage-databases")
    spec = yaml.safe_load(config["data"]["databases.yaml"])
    assert (spec["host"], spec["admin"]) == ("db.example.com", "master")
    env = {item["name"]: item.get("value") for item in container(objects, "storage-buckets")["env"]}
    assert "AWS_ENDPOINT_URL" not in env
    assert env["AWS_REGION"] == "eu-central-1"


def test_where_and_with_what_credentials_pods_run_is_one_setting_for_all():
    scheduling = {
        "nodeSelector": {"pool": "stores"},
        "tolerations": [{"key": "stores", "operator": "Exists"}],
        "priorityClassName": "high",
    }
    objects = storage(scheduling=scheduling, imagePullSecrets=[{"name": "mirror"}])
    for name in (*STORES, "storage-databases", "storage-buckets"):
        spec = pod(objects, name)
        assert {key: spec[key] for key in scheduling} == scheduling
        assert spec["imagePullSecrets"] == [{"name": "mirror"}]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mariadb": {"enabled": False}}, "Give the address of your server there, or set setup."),
        ({"seaweedfs": {"enabled": False}}, "Give the address of your S3 there (empty for AWS)"),
        ({"mariadb": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"mariadb": {"persistence": {"size": "8 GB"}}}, "does not match pattern"),
        ({"valkey": {"durability": "both"}}, "value must be one of 'aof', 'rdb'"),
        ({"setup": {"buckets": {"names": ["Data_1"]}}}, "does not match pattern"),
        ({"image": {"tag": ""}}, "give a tag or a digest"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence(values, sentence):
    assert sentence in fails("storage", {**IMAGE, **values})
