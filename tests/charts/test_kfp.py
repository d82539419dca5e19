"""charts/kfp: what v2 pipelines need, how runs are hardened, what is refused and how."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.charts.render import CHARTS, fails, profiles, render, template

TAG = {"tag": "abc"}
IMAGE = {"wait": {"image": TAG}}
STEPS = {"steps": {"images": {"SLIPWAY_TRAIN_IMAGE": TAG, "SLIPWAY_SERVE_IMAGE": TAG}}}
TMP = "/tmp"
MAXIMAL = CHARTS / "kfp" / "ci" / "maximal-values.yaml"


def kfp(**values):
    return template("kfp", {**IMAGE, **values}, namespace="kubeflow")


def maximal(**values):
    return template("kfp", values, namespace="kubeflow", files=[MAXIMAL])


def profile(name):
    return render("kfp", name, {**IMAGE, **STEPS})


def of(objects, kind, name=None):
    return [
        found
        for found in objects
        if found["kind"] == kind and name in (None, found["metadata"]["name"])
    ]


def one(objects, kind, name):
    (found,) = of(objects, kind, name)
    return found


def pod(objects, deployment):
    return one(objects, "Deployment", deployment)["spec"]["template"]["spec"]


def container(objects, deployment, name=None):
    (found,) = [
        each
        for each in pod(objects, deployment)["containers"]
        if name is None or each["name"] == name
    ]
    return found


def env(container):
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def argo(objects):
    """Argo's configuration, as Argo reads it."""
    data = one(objects, "ConfigMap", "workflow-controller")["data"]
    return {key: yaml.safe_load(text) for key, text in data.items()}


def patch(objects):
    """What every pod of a run gets."""
    return json.loads(argo(objects)["workflowDefaults"]["spec"]["podSpecPatch"])


def main(objects):
    (found,) = patch(objects)["containers"]
    return found


def server_config(objects):
    return json.loads(one(objects, "ConfigMap", "ml-pipeline")["data"]["config.json"])


def launcher(objects):
    data = one(objects, "ConfigMap", "kfp-launcher")["data"]
    return data["defaultPipelineRoot"], yaml.safe_load(data["providers"])["s3"]["default"]


def rules(objects, role):
    return {
        (group, resource): (tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in one(objects, "Role", role)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


# What there is


def test_only_what_v2_needs_is_installed():
    assert {each["metadata"]["name"] for each in of(kfp(), "Deployment")} == {
        "metadata-grpc-deployment",
        "ml-pipeline",
        "ml-pipeline-persistenceagent",
        "ml-pipeline-scheduledworkflow",
        "ml-pipeline-ui",
        "workflow-controller",
    }


def test_services_have_the_names_that_drivers_and_the_sdk_know():
    services = {
        each["metadata"]["name"]: [port["port"] for port in each["spec"]["ports"]]
        for each in of(kfp(), "Service")
    }
    assert services == {
        "ml-pipeline": [8888, 8887],
        "metadata-grpc-service": [8080],
        "ml-pipeline-ui": [80],
    }


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ({"ui": {"enabled": False}}, "ml-pipeline-ui"),
        ({"argo": {"enabled": False}}, "workflow-controller"),
        ({"scheduledWorkflow": {"enabled": False}}, "ml-pipeline-scheduledworkflow"),
    ],
)
def test_what_is_switched_off_leaves_nothing_behind(values, gone):
    on, off = kfp(), kfp(**values)
    assert of(on, "Deployment", gone)
    assert not [each for each in off if each["metadata"]["name"].startswith(gone)]


def test_nothing_is_outside_its_namespace_but_the_definitions():
    for each in kfp():
        if each["kind"] != "CustomResourceDefinition":
            assert each["metadata"]["namespace"] == "kubeflow", each
        assert each["kind"] not in ("ClusterRole", "ClusterRoleBinding", "Namespace", "Secret")


# Definitions


def test_definitions_survive_an_uninstall_unless_told_otherwise():
    definitions = of(kfp(), "CustomResourceDefinition")
    assert {each["metadata"]["name"] for each in definitions} == {
        "workflows.argoproj.io",
        "workflowtemplates.argoproj.io",
        "cronworkflows.argoproj.io",
        "workflowtasksets.argoproj.io",
        "workflowtaskresults.argoproj.io",
        "workflowartifactgctasks.argoproj.io",
        "scheduledworkflows.kubeflow.org",
    }
    for each in definitions:
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert each["spec"]["scope"] == "Namespaced"
    for each in of(kfp(crds={"keep": False}), "CustomResourceDefinition"):
        assert "annotations" not in each["metadata"]
    assert not of(kfp(crds={"install": False}), "CustomResourceDefinition")


def test_definitions_keep_whatever_the_controllers_write():
    for each in of(kfp(), "CustomResourceDefinition"):
        (version,) = each["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        fields = schema.get("properties") or {"all of it": schema}
        for field in fields.values():
            assert field["x-kubernetes-preserve-unknown-fields"] is True


def test_kubectl_shows_how_runs_and_schedules_stand():
    definitions = {
        each["spec"]["names"]["shortNames"][0]: each["spec"]["versions"][0]
        for each in of(kfp(), "CustomResourceDefinition")
        if "shortNames" in each["spec"]["names"]
    }
    columns = {
        short: [column["name"] for column in version.get("additionalPrinterColumns", [])]
        for short, version in definitions.items()
    }
    assert columns["wf"] == ["Status", "Age", "Message"]
    assert columns["swf"] == ["Enabled", "Last", "Next", "Age"]


# Stores


def test_database_and_store_of_this_repository_are_the_default():
    config = server_config(kfp())
    assert config["DBConfig"]["MySQLConfig"]["Host"] == "mariadb.storage"
    assert config["ObjectStoreConfig"]["Host"] == "seaweedfs.storage"
    root, store = launcher(kfp())
    assert root == "s3://mlpipeline/v2/artifacts"
    assert store["endpoint"] == "http://seaweedfs.storage:9000"
    assert store["disableSSL"] is True
    assert store["credentials"]["secretRef"]["secretName"] == "mlpipeline-minio-artifact"


def test_another_database_reaches_the_server_and_the_metadata_store():
    objects = maximal()
    mysql = server_config(objects)["DBConfig"]["MySQLConfig"]
    assert (mysql["Host"], mysql["Port"], mysql["DBName"]) == (
        "db.example.com",
        "3307",
        "pipelines",
    )
    store = container(objects, "metadata-grpc-deployment")
    assert "--mysql_config_host=db.example.com" in store["args"]
    assert "--mysql_config_port=3307" in store["args"]
    assert "--mysql_config_database=metadata" in store["args"]
    for deployment in ("ml-pipeline", "metadata-grpc-deployment"):
        references = json.dumps(container(objects, deployment)["env"])
        assert '"name": "rds", "key": "password"' in references
        (wait,) = pod(objects, deployment)["initContainers"]
        assert "tcp://db.example.com:3307" in wait["args"]


def test_passwords_are_references_to_secrets_and_nothing_else():
    for each in of(kfp(), "Deployment"):
        for found in each["spec"]["template"]["spec"]["containers"]:
            for variable in found.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "SECRET_", "ACCESS")):
                    assert "secretKeyRef" in variable["valueFrom"], variable


def test_the_ui_does_not_log_the_secret_key_of_the_store():
    """What it takes as signing secret it prints when it starts; unset it takes that key."""
    page = env(container(kfp(), "ml-pipeline-ui", "ml-pipeline-ui"))
    assert page["TENSORBOARD_PROXY_SIGNING_SECRET"] == "none"


def test_a_store_without_a_secret_takes_credentials_from_the_environment():
    objects = maximal()
    root, store = launcher(objects)
    assert root == "s3://company-pipelines/runs"
    assert store["credentials"] == {"fromEnv": True}
    assert (store["disableSSL"], store["forcePathStyle"]) == (False, False)
    assert store["endpoint"] == "https://s3.eu-central-1.amazonaws.com"
    assert server_config(objects)["ObjectStoreConfig"]["Port"] == "443"
    assert "OBJECTSTORECONFIG_ACCESSKEY" not in env(container(objects, "ml-pipeline"))
    assert ("", "secrets") not in rules(objects, "pipeline-runner")
    assert ("", "secrets") not in rules(objects, "ml-pipeline-ui")


def test_the_server_gets_what_it_dies_without():
    given = env(container(kfp(), "ml-pipeline"))
    assert given["ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_HOST"]
    assert given["ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_PORT"]
    assert given["BLOCK_V1_PIPELINES"] == "true"
    assert given["PUBLISH_LOGS"] == "true"
    assert given["V2_DRIVER_IMAGE"] == "ghcr.io/kubeflow/kfp-driver:2.17.0"
    assert given["V2_LAUNCHER_IMAGE"] == "ghcr.io/kubeflow/kfp-launcher:2.17.0"


@pytest.mark.parametrize(
    ("deployment", "file"),
    [
        ("ml-pipeline-persistenceagent", "persistenceagent-sa-token"),
        ("ml-pipeline-scheduledworkflow", "scheduledworkflow-sa-token"),
    ],
)
def test_controllers_find_their_tokens(deployment, file):
    (token,) = [each for each in pod(kfp(), deployment)["volumes"] if each["name"] == "token"]
    (source,) = token["projected"]["sources"]
    assert source["serviceAccountToken"]["path"] == file
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


# MLflow


def test_the_image_s_own_mlflow_is_never_asked():
    assert "plugins" not in server_config(kfp())


def test_mlflow_is_asked_where_it_is_ours():
    plugin = server_config(kfp(plugins={"mlflow": {"enabled": True}}))["plugins"]["mlflow"]
    assert plugin["endpoint"] == "http://mlflow.mlflow:5000"
    assert plugin["settings"]["authType"] == "none"
    assert plugin["settings"]["workspacesEnabled"] is False
    assert not any(resource == "secrets" for _, resource in rules(kfp(), "ml-pipeline"))


def test_mlflow_with_a_password_may_read_that_secret_alone():
    objects = maximal()
    settings = server_config(objects)["plugins"]["mlflow"]["settings"]
    assert settings["credentialSecretRef"] == {"usernameKey": "user", "passwordKey": "word"}
    found = rules(objects, "ml-pipeline")[("", "secrets")]
    assert found == (("get",), ("kfp-mlflow-credentials",))


# Steps


def test_a_step_is_hardened_and_may_write_below_tmp_alone():
    pod_patch, step = patch(kfp()), main(kfp())
    assert step["name"] == "main"
    assert step["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod_patch["securityContext"]["runAsNonRoot"] is True
    assert step["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod_patch["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}}]
    assert {"name": "HOME", "value": "/tmp"} in step["env"]


def test_argo_s_own_containers_pass_the_restricted_standard():
    security = argo(kfp())["executor"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False


def test_no_pipeline_may_choose_another_user():
    given = env(container(maximal(), "ml-pipeline"))
    assert given["DEFAULT_SECURITY_CONTEXT_RUN_AS_USER"] == "1234"
    assert given["DEFAULT_SECURITY_CONTEXT_RUN_AS_NON_ROOT"] == "true"


def test_a_step_has_the_environment_of_this_cluster_and_kfp_s_own():
    objects = kfp(
        steps={
            "env": {"PLAIN": "1", "OBJECT": {"a": [1]}},
            "images": {"IMAGE": {"repository": "r/i", "tag": "t"}},
        }
    )
    assert main(objects)["envFrom"] == [
        {"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}},
        {"configMapRef": {"name": "slipway-steps", "optional": True}},
        {"secretRef": {"name": "slipway-steps", "optional": True}},
    ]
    assert one(objects, "ConfigMap", "slipway-steps")["data"] == {
        "AWS_ENDPOINT_URL": "http://seaweedfs.storage:9000",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_REGION": "us-east-1",
        "IMAGE": "r/i:t",
        "OBJECT": '{"a":[1]}',
        "PLAIN": "1",
    }


def test_a_driver_keeps_its_own_resources():
    """Defaults go where a template's own win; in the patch they would lie over drivers too."""
    assert "resources" not in main(kfp())
    assert argo(kfp())["mainContainer"]["resources"]["limits"] == {"memory": "2Gi"}


def test_what_a_platform_adds_to_steps_comes_on_top():
    step, pod_patch = main(maximal()), patch(maximal())
    assert {each["name"] for each in step["env"]} == {"HOME", "TMPDIR"}
    assert {each["mountPath"] for each in step["volumeMounts"]} == {"/tmp", "/cache"}
    assert {each["name"] for each in pod_patch["volumes"]} == {"tmp", "cache"}
    assert pod_patch["nodeSelector"] == {"example.com/pool": "runs"}
    assert step["securityContext"]["readOnlyRootFilesystem"] is False


def test_a_foreign_argo_gets_the_same_patch_in_each_workflow():
    objects = kfp(argo={"enabled": False}, imagePullSecrets=[{"name": "registry"}])
    given = json.loads(env(container(objects, "ml-pipeline"))["COMPILED_PIPELINE_SPEC_PATCH"])
    assert json.loads(given["podSpecPatch"]) == patch(kfp())
    assert given["imagePullSecrets"] == [{"name": "registry"}]
    assert "COMPILED_PIPELINE_SPEC_PATCH" not in env(container(kfp(), "ml-pipeline"))


# Runs


def test_runs_end_and_are_cleared_away():
    defaults = argo(kfp())["workflowDefaults"]["spec"]
    assert defaults["activeDeadlineSeconds"] == 259200
    assert defaults["podGC"] == {"strategy": "OnWorkflowSuccess"}
    assert set(defaults["ttlStrategy"]) == {"secondsAfterSuccess", "secondsAfterFailure"}


def test_a_lost_pod_is_started_again_without_touching_set_retry():
    defaults = argo(kfp())["workflowDefaults"]["spec"]
    assert "pod deleted" in defaults["retryStrategy"]["expression"]
    assert "templateDefaults" not in defaults


def test_the_controller_looks_often():
    assert env(container(kfp(), "workflow-controller"))["DEFAULT_REQUEUE_TIME"] == "200ms"


def test_further_keys_of_argo_s_configuration_are_taken():
    found = argo(maximal())
    assert found["parallelism"] == 20
    assert found["nodeEvents"] == {"enabled": False}


# Rights


def test_a_step_may_read_one_secret_and_report_its_results():
    assert rules(kfp(pipelineRunner={"volumes": False}), "pipeline-runner") == {
        ("", "configmaps"): (("get",), ("kfp-launcher",)),
        ("", "secrets"): (("get",), ("mlpipeline-minio-artifact",)),
        ("", "pods"): (("get",), ()),
        ("argoproj.io", "workflowtaskresults"): (("create", "patch"), ()),
    }


def test_volumes_and_further_rights_are_a_choice():
    assert ("", "persistentvolumeclaims") in rules(kfp(), "pipeline-runner")
    found = rules(maximal(), "pipeline-runner")
    assert ("", "persistentvolumeclaims") not in found
    assert found[("batch", "jobs")] == (("create", "get"), ())


def test_nobody_may_read_every_secret_or_change_roles():
    for each in of(maximal(), "Role"):
        for rule in each["rules"]:
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"]
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


def test_an_account_of_a_step_has_the_runner_s_rights_and_its_own():
    objects = maximal()
    places = {each["metadata"]["namespace"]: each for each in of(objects, "Role", "trainer")}
    assert set(places) == {"kubeflow", "models"}
    bindings = [
        each
        for each in of(objects, "RoleBinding")
        if each["subjects"]
        == [{"kind": "ServiceAccount", "name": "trainer", "namespace": "kubeflow"}]
    ]
    assert {(each["metadata"]["namespace"], each["roleRef"]["name"]) for each in bindings} == {
        ("kubeflow", "pipeline-runner"),
        ("kubeflow", "trainer"),
        ("models", "trainer"),
    }


def test_a_step_takes_its_account_by_a_label():
    assert "serviceAccountName" not in patch(kfp())
    account = patch(maximal())["serviceAccountName"]
    assert account.startswith("{{=")
    assert "'slipway/service-account'" in account
    assert account.endswith(": workflow.serviceAccountName}}")


# More than one


def test_replicas_bring_a_budget_a_spread_and_a_leader():
    objects = maximal()
    assert {each["metadata"]["name"] for each in of(objects, "PodDisruptionBudget")} == {
        "ml-pipeline",
        "metadata-grpc",
        "ml-pipeline-ui",
        "workflow-controller",
    }
    for deployment in ("ml-pipeline", "metadata-grpc-deployment", "ml-pipeline-ui"):
        (spread,) = pod(objects, deployment)["topologySpreadConstraints"]
        selector = one(objects, "Deployment", deployment)["spec"]["selector"]
        assert spread["labelSelector"] == selector
    controller = env(container(objects, "workflow-controller"))
    assert "LEADER_ELECTION_DISABLE" not in controller
    assert controller["LEADER_ELECTION_IDENTITY"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert one(objects, "Lease", "workflow-controller")
    lease = rules(objects, "workflow-controller")[("coordination.k8s.io", "leases")]
    assert lease == (("get", "update"), ("workflow-controller",))


def test_alone_there_is_no_budget_that_blocks_a_drain():
    assert not of(kfp(), "PodDisruptionBudget")
    assert not of(kfp(), "Lease")


@pytest.mark.parametrize(
    "deployment",
    ["ml-pipeline-persistenceagent", "ml-pipeline-scheduledworkflow", "workflow-controller"],
)
def test_controllers_without_a_leader_are_never_two_at_once(deployment):
    spec = one(kfp(), "Deployment", deployment)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_a_change_of_configuration_restarts_what_reads_it():
    def checksum(objects, deployment):
        template = one(objects, "Deployment", deployment)["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    before, after = kfp(), kfp(objectStore={"bucket": "other"}, steps={"tmpSize": "1Gi"})
    for deployment in ("ml-pipeline", "workflow-controller"):
        assert checksum(before, deployment) != checksum(after, deployment)
        assert checksum(before, deployment) == checksum(kfp(), deployment)


def test_a_new_chart_version_alone_restarts_nothing():
    for each in of(kfp(), "Deployment"):
        assert "helm.sh/chart" not in each["spec"]["template"]["metadata"]["labels"]
        assert "helm.sh/chart" not in each["spec"]["selector"]["matchLabels"]


# Waiting


def test_controllers_wait_for_the_server():
    for deployment in ("ml-pipeline-persistenceagent", "ml-pipeline-scheduledworkflow"):
        (wait,) = pod(kfp(), deployment)["initContainers"]
        assert "http://ml-pipeline:8888/apis/v2beta1/healthz" in wait["args"]


def test_a_server_without_its_stores_does_not_start():
    (wait,) = pod(kfp(), "ml-pipeline")["initContainers"]
    assert "tcp://mariadb.storage:3306" in wait["args"]
    assert "tcp://seaweedfs.storage:9000" in wait["args"]
    (wait,) = pod(kfp(objectStore={"endpoint": "s3.example.com", "secure": True}), "ml-pipeline")[
        "initContainers"
    ]
    assert "tcp://s3.example.com:443" in wait["args"]


def test_without_our_image_nothing_waits():
    for each in of(template("kfp", {"wait": {"enabled": False}}), "Deployment"):
        assert "initContainers" not in each["spec"]["template"]["spec"]


# TLS


def test_over_tls_all_who_ask_the_server_trust_its_authority():
    objects = maximal()
    server = container(objects, "ml-pipeline")
    assert "--tlsCertPath=/etc/tls/tls.crt" in server["args"]
    assert server["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    given = env(server)
    assert given["CABUNDLE_SECRET_NAME"] == "ml-pipeline-tls"
    assert given["CABUNDLE_KEY_NAME"] == "ca.crt"
    for deployment in ("ml-pipeline-persistenceagent", "ml-pipeline-scheduledworkflow"):
        assert "--caCertPath=/etc/tls/ca.crt" in container(objects, deployment)["args"]
        (wait,) = pod(objects, deployment)["initContainers"]
        assert "tcp://ml-pipeline:8888" in wait["args"]
    page = env(container(objects, "ml-pipeline-ui", "ml-pipeline-ui"))
    assert page["ML_PIPELINE_SERVICE_SCHEME"] == "https"
    assert page["NODE_EXTRA_CA_CERTS"] == "/etc/tls/ca.crt"


def test_only_the_server_holds_the_private_key():
    for each in of(maximal(), "Deployment"):
        for volume in each["spec"]["template"]["spec"].get("volumes", []):
            if volume["name"] == "tls" and each["metadata"]["name"] != "ml-pipeline":
                assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


# The UI


def test_the_ui_reaches_the_server_the_metadata_and_the_store():
    page = env(container(kfp(), "ml-pipeline-ui", "ml-pipeline-ui"))
    assert page["ML_PIPELINE_SERVICE_HOST"] == "ml-pipeline"
    assert page["METADATA_ENVOY_SERVICE_SERVICE_HOST"] == "127.0.0.1"
    assert (page["MINIO_HOST"], page["MINIO_PORT"]) == ("seaweedfs.storage", "9000")
    assert page["MINIO_NAMESPACE"] == "", "or the server appends it to the host"
    data = one(kfp(), "ConfigMap", "ml-pipeline-ui-metadata-proxy")["data"]
    resources = yaml.safe_load(data["envoy.yaml"])["static_resources"]
    (cluster,) = resources["clusters"]
    (end,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = end["endpoint"]["address"]["socket_address"]
    assert address == {"address": "metadata-grpc-service", "port_value": 8080}


def test_the_ui_is_on_the_gateway_where_that_is_asked_for():
    assert not of(kfp(), "HTTPRoute")
    route = one(maximal(), "HTTPRoute", "ml-pipeline-ui")
    assert route["spec"]["hostnames"] == ["kfp.example.com"]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways"}]


def test_metrics_are_read_where_that_is_asked_for():
    assert not of(kfp(), "ServiceMonitor")
    objects = maximal()
    services = of(objects, "Service")
    monitors = of(objects, "ServiceMonitor")
    assert len(monitors) == 3
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [each for each in services if wanted <= each["metadata"]["labels"].items()]
        (end,) = monitor["spec"]["endpoints"]
        assert end["port"] in [port["name"] for port in service["spec"]["ports"]]


# Refused


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"multiUser": {"enabled": True}}, "install one release per team"),
        ({"tls": {"enabled": True}}, "tls.enabled needs tls.existingSecret"),
        ({"objectStore": {"endpoint": "https://s3.example.com"}}, "by objectStore.secure"),
        ({"plugins": {"mlflow": {"enabled": True, "endpoint": "mlflow:80"}}}, "http:// or https"),
        ({"plugins": {"mlflow": {"enabled": True, "authType": "bearer"}}}, "{tokenKey}"),
        (
            {"plugins": {"mlflow": {"enabled": True, "authType": "basic-auth"}}},
            "credentialKeys: {usernameKey, passwordKey}",
        ),
        ({"argo": {"workflowDefaults": {"podSpecPatch": "{}"}}}, "write it as steps.podSpecPatch"),
        ({"argo": {"config": {"executor": {}}}}, "argo.config.executor: this chart writes it"),
        ({"steps": {"podSpecPatch": {"containers": []}}}, "as steps.container"),
        ({"ui": {"enabled": False, "route": {"enabled": True}}}, "needs ui.enabled: true"),
        ({"wait": {"image": {"tag": ""}}}, "give a tag or a digest"),
        ({"apiserver": {}}, "additional properties 'apiserver' not allowed"),
        ({"steps": {"envs": {}}}, "additional properties 'envs' not allowed"),
        ({"steps": {"runAsUser": 0}}, "minimum"),
        ({"steps": {"env": {"AWS_RETRY_MODE": "legacy"}}}, "knows standard and adaptive only"),
        ({"database": {"name": "a-b"}}, "does not match pattern"),
        ({"argo": {"requeueTime": "soon"}}, "does not match pattern"),
        ({"stepAccounts": {"pipeline-runner": {}}}, "pipeline-runner"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(values, sentence):
    assert sentence in fails("kfp", {**IMAGE, **values})


# Profiles


@pytest.mark.parametrize("name", profiles())
def test_steps_of_every_profile_know_their_cluster(name):
    data = one(profile(name), "ConfigMap", "slipway-steps")["data"]
    assert data["SLIPWAY_TRAIN_IMAGE"] == "ghcr.io/slipway/train:abc"
    assert data["SLIPWAY_RAY"] == "kuberay"
    assert data["SLIPWAY_MODELS_NAMESPACE"] == "models"
    assert {"pipeline-trainer", "pipeline-releaser"} <= {
        each["metadata"]["name"] for each in of(profile(name), "ServiceAccount")
    }


def test_production_survives_the_loss_of_a_node():
    replicas = {
        each["metadata"]["name"]: each["spec"]["replicas"]
        for each in of(profile("production"), "Deployment")
    }
    for deployment in (
        "ml-pipeline",
        "metadata-grpc-deployment",
        "workflow-controller",
        "ml-pipeline-ui",
    ):
        assert replicas[deployment] >= 2


def test_the_laptop_asks_for_little():
    asked = [
        found["resources"]["requests"]
        for each in of(profile("laptop"), "Deployment")
        for found in each["spec"]["template"]["spec"]["containers"]
    ]
    assert sum(int(each["cpu"].removesuffix("m")) for each in asked) <= 90
    assert sum(int(each["memory"].removesuffix("Mi")) for each in asked) <= 400
