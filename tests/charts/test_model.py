"""charts/model: what each value does to the versions of a model, their route and their pods."""

import copy

import pytest

from components.release import values as on
from slipway.contract import load_contract
from tests.charts.render import ROOT, fails, template

V3 = {"version": "3", "storageUri": "s3://mlflow/artifacts/3/package", "weight": 100}
V4 = {"version": "4", "storageUri": "s3://mlflow/artifacts/4/package", "weight": 0}
IMAGE = {"image": {"tag": "abc"}}


def model(*versions, server=None, **values):
    return template(
        "model",
        {"versions": list(versions), "server": {**IMAGE, **(server or {})}, **values},
        release="flight-delay",
        namespace="models",
    )


def refused(*versions, server=None, **values):
    return fails(
        "model",
        {"versions": list(versions), "server": {**IMAGE, **(server or {})}, **values},
        release="flight-delay",
        namespace="models",
    )


def of(objects, kind, name=None):
    return [
        item
        for item in objects
        if item["kind"] == kind and name in (None, item["metadata"]["name"])
    ]


def one(objects, kind, name=None):
    (found,) = of(objects, kind, name)
    return found


def container(isvc, component="predictor"):
    (found,) = isvc["spec"][component]["containers"]
    return found


def flags(isvc, component="predictor"):
    args = container(isvc, component)["args"]
    return dict(zip(args[::2], args[1::2], strict=True))


def env(isvc, component="predictor"):
    return {item["name"]: item for item in container(isvc, component)["env"]}


def rule(objects, path):
    """The rule of the route that has this path."""
    for item in one(objects, "HTTPRoute")["spec"]["rules"]:
        if any(match["path"]["value"] == path for match in item["matches"]):
            return item
    raise AssertionError(f"no rule for {path}")


def weights(objects, path="/v1/models/flight-delay:predict"):
    return {item["name"]: item["weight"] for item in rule(objects, path)["backendRefs"]}


def test_a_version_is_an_inference_service_of_its_own():
    made = of(model(V3, V4), "InferenceService")
    assert [item["metadata"]["name"] for item in made] == ["flight-delay-v3", "flight-delay-v4"]
    assert [env(item)["STORAGE_URI"]["value"] for item in made] == [
        V3["storageUri"],
        V4["storageUri"],
    ]
    # Clients name the model, whatever the version.
    assert {flags(item)["--model_name"] for item in made} == {"flight-delay"}


def test_weights_change_the_route_and_no_pod():
    before = model(V3, V4)
    after = model(V3 | {"weight": 10}, V4 | {"weight": 90})
    assert of(before, "InferenceService") == of(after, "InferenceService")
    assert weights(after) == {"flight-delay-v3-predictor": 10, "flight-delay-v4-predictor": 90}


def test_a_new_version_leaves_the_pods_of_the_one_before_alone():
    before = one(model(V3), "InferenceService")
    other = {"image": {"tag": "new"}, "resources": {"limits": {"memory": "2Gi"}}}
    after = model(V3, V4 | {"server": other})
    assert one(after, "InferenceService", "flight-delay-v3") == before
    fresh = one(after, "InferenceService", "flight-delay-v4")
    assert container(fresh)["image"].endswith(":new")
    assert container(fresh)["resources"]["limits"]["memory"] == "2Gi"
    # What the entry does not say comes from `server`.
    assert container(fresh)["resources"]["requests"] == container(before)["resources"]["requests"]


def test_the_pods_say_of_which_settings_they_are():
    def settings(*versions, **values):
        isvc = one(model(*versions, **values), "InferenceService", "flight-delay-v3")
        return isvc["metadata"]["annotations"]["slipway/settings"]

    assert settings(V3) == settings(V3 | {"weight": 100}, V4)
    assert settings(V3) != settings(V3 | {"server": {"workers": 2}})
    assert settings(V3) != settings(V3 | {"storageUri": "s3://mlflow/other"})


def test_pods_lose_no_request_when_they_go():
    pods = one(model(V3), "InferenceService")["spec"]["predictor"]
    assert pods["deploymentStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pause = pods["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(flags(one(model(V3), "InferenceService"))["--drain_timeout"])
    assert pods["terminationGracePeriodSeconds"] > pause + drain


def test_probes_ask_what_the_server_answers():
    made = container(one(model(V3, server={"startupSeconds": 33}), "InferenceService"))
    assert made["startupProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert made["startupProbe"]["periodSeconds"] * made["startupProbe"]["failureThreshold"] == 33
    assert made["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert made["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_kserve_finds_rest_first_and_grpc_by_name():
    ports = container(one(model(V3), "InferenceService"))["ports"]
    assert [(port["name"], port["containerPort"]) for port in ports] == [
        ("http1", 8080),
        ("h2c", 8081),
    ]


def test_kserve_makes_no_host_of_its_own():
    labels = one(model(V3), "InferenceService")["metadata"]["labels"]
    assert labels["networking.kserve.io/visibility"] == "cluster-local"


def test_features_come_from_the_store_of_the_secret():
    isvc = one(model(V3, server={"featureStore": {"clock": "store"}}), "InferenceService")
    assert flags(isvc)["--feature_store"] == "/app/feature_repo/stores/cluster"
    assert flags(isvc)["--clock"] == "store"
    for name in ("SLIPWAY_FEAST_REGISTRY", "SLIPWAY_FEAST_REDIS"):
        assert env(isvc)[name]["valueFrom"]["secretKeyRef"] == {
            "name": "slipway-serving",
            "key": name,
        }
    assert env(isvc)["SLIPWAY_FEAST_REGISTRY_TYPE"]["value"] == "sql"


def test_a_model_without_features_reads_no_secret():
    isvc = one(model(V3, server={"featureStore": {"enabled": False}}), "InferenceService")
    assert "--feature_store" not in flags(isvc)
    assert not [name for name in env(isvc) if name.startswith("SLIPWAY_FEAST")]


def test_split_puts_the_lookup_before_the_model():
    objects = model(V3, server={"mode": "split"})
    isvc = one(objects, "InferenceService")
    assert flags(isvc)["--role"] == "predictor"
    assert "--feature_store" not in flags(isvc)
    ahead = flags(isvc, "transformer")
    assert ahead["--role"] == "transformer"
    assert ahead["--predictor_host"] == "flight-delay-v3-predictor.models:80"
    assert ahead["--feature_store"]
    assert weights(objects) == {"flight-delay-v3-transformer": 100}
    # A transformer holds no model that could explain.
    assert weights(objects, "/v1/models/flight-delay:explain") == {"flight-delay-v3-predictor": 100}
    # Both need the package: one its model, the other its schema.
    assert env(isvc, "transformer")["STORAGE_URI"] == env(isvc)["STORAGE_URI"]


def test_fixed_replicas_have_no_autoscaler():
    isvc = one(model(V3, server={"replicas": {"min": 2, "max": 2}}), "InferenceService")
    assert isvc["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert isvc["spec"]["predictor"]["minReplicas"] == 2


def test_more_replicas_come_with_load():
    server = {"replicas": {"min": 1, "max": 4, "metric": "memory", "target": 70}}
    isvc = one(model(V3, server=server), "InferenceService")
    assert isvc["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"
    pods = isvc["spec"]["predictor"]
    assert [pods[name] for name in ("maxReplicas", "scaleMetric", "scaleTarget")] == [
        4,
        "memory",
        70,
    ]
    spread = {item["topologyKey"] for item in pods["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def test_a_disruption_budget_only_where_there_are_two():
    assert not of(model(V3), "PodDisruptionBudget")
    two = {"replicas": {"min": 2, "max": 3}}
    budget = one(model(V3 | {"server": two}, V4), "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"] == {"app": "isvc.flight-delay-v3-predictor"}
    assert budget["spec"]["maxUnavailable"] == 1
    off = model(V3 | {"server": two}, podDisruptionBudget={"enabled": False})
    assert not of(off, "PodDisruptionBudget")


def test_clients_reach_predictions_and_nothing_else():
    rules = one(model(V3), "HTTPRoute")["spec"]["rules"]
    paths = {
        (match["path"]["type"], match["path"]["value"])
        for item in rules
        for match in item["matches"]
    }
    assert ("Exact", "/v1/models/flight-delay:predict") in paths
    assert ("PathPrefix", "/v2/models/flight-delay") in paths
    assert ("Exact", "/inference.GRPCInferenceService/ModelInfer") in paths
    for kind, value in paths:
        assert "repository" not in value.lower()
        for inside in (
            "/metrics",
            "/v2/repository/index",
            "/inference.GRPCInferenceService/RepositoryModelUnload",
        ):
            reaches = inside.startswith(value + "/") if kind == "PathPrefix" else inside == value
            assert not reaches, (kind, value)


def test_grpc_goes_to_the_port_of_grpc():
    (backend,) = rule(model(V3), "/inference.GRPCInferenceService/ModelInfer")["backendRefs"]
    assert backend["port"] == 8081


def test_the_host_is_the_models_under_the_domain():
    def hosts(**values):
        return one(model(V3, **values), "HTTPRoute")["spec"]["hostnames"]

    assert hosts() == ["flight-delay.slipway.localhost"]
    assert hosts(route={"domain": "ml.example.com"}) == ["flight-delay.ml.example.com"]
    assert hosts(route={"host": "delay.example.com"}) == ["delay.example.com"]


def test_the_route_hangs_on_the_named_gateway():
    made = one(model(V3, route={"gateway": {"name": "edge", "namespace": "infra"}}), "HTTPRoute")
    assert made["spec"]["parentRefs"] == [{"name": "edge", "namespace": "infra"}]
    assert not of(model(V3, route={"enabled": False}), "HTTPRoute")


def test_what_a_dying_pod_held_is_asked_again():
    objects = model(V3, route={"retry": {"attempts": 4, "maxBodyBytes": 2097152}})
    retry = one(objects, "Middleware")
    assert retry["spec"]["retry"] == {
        "attempts": 4,
        "initialInterval": "150ms",
        "status": ["502"],
        "retryNonIdempotentMethod": True,
        "maxRequestBodyBytes": 2097152,
    }
    for path in ("/v1/models/flight-delay:predict", "/inference.GRPCInferenceService/ModelInfer"):
        (used,) = rule(objects, path)["filters"]
        assert used["extensionRef"]["name"] == retry["metadata"]["name"]
    # A stream would be kept back until it ends.
    assert "filters" not in rule(objects, "/grpc.reflection.v1.ServerReflection")


@pytest.mark.parametrize(
    "route", [{"retry": {"enabled": False}}, {"implementation": "standard"}, {"enabled": False}]
)
def test_no_retries(route):
    objects = model(V3, route=route)
    assert not of(objects, "Middleware")
    for made in of(objects, "HTTPRoute"):
        assert not [item for item in made["spec"]["rules"] if "filters" in item]


def test_a_shadow_behind_traefik_gets_copies():
    objects = model(V3, V4, shadow={"version": "4", "percent": 25})
    mirror = one(objects, "TraefikService")
    assert mirror["spec"]["mirroring"] == {
        "name": "flight-delay-v3-predictor",
        "port": 80,
        "mirrors": [{"name": "flight-delay-v4-predictor", "port": 80, "percent": 25}],
    }
    backends = rule(objects, "/v1/models/flight-delay:predict")["backendRefs"]
    assert backends[0] == {
        "group": "traefik.io",
        "kind": "TraefikService",
        "name": mirror["metadata"]["name"],
        "weight": 100,
    }
    assert backends[1]["weight"] == 0


def test_a_shadow_behind_any_other_gateway_gets_copies():
    objects = model(
        V3, V4, shadow={"version": "4", "percent": 25}, route={"implementation": "standard"}
    )
    assert not of(objects, "TraefikService")
    (copying,) = rule(objects, "/v1/models/flight-delay:predict")["filters"]
    assert copying == {
        "type": "RequestMirror",
        "requestMirror": {
            "backendRef": {"name": "flight-delay-v4-predictor", "port": 80},
            "percent": 25,
        },
    }
    assert weights(objects) == {"flight-delay-v3-predictor": 100, "flight-delay-v4-predictor": 0}


def test_payloads_are_kept_where_the_client_is_answered():
    server = {"mode": "split", "payloadLog": {"enabled": True, "existingClaim": "payloads"}}
    isvc = one(model(V3, server=server), "InferenceService")
    assert "--payload_log" not in flags(isvc)
    assert flags(isvc, "transformer")["--payload_log"] == "/payloads"
    volumes = {item["name"]: item for item in isvc["spec"]["transformer"]["volumes"]}
    assert volumes["payloads"]["persistentVolumeClaim"] == {"claimName": "payloads"}
    (mount,) = [
        item
        for item in container(isvc, "transformer")["volumeMounts"]
        if item["name"] == "payloads"
    ]
    assert mount["subPathExpr"] == "$(POD_NAME)"
    assert "POD_NAME" in env(isvc, "transformer")


def test_payloads_without_a_claim_go_with_the_pod():
    isvc = one(
        model(V3, server={"payloadLog": {"enabled": True, "sizeLimit": "2Gi"}}), "InferenceService"
    )
    volumes = {item["name"]: item for item in isvc["spec"]["predictor"]["volumes"]}
    assert volumes["payloads"]["emptyDir"] == {"sizeLimit": "2Gi"}


def test_only_the_gateway_prometheus_and_pipelines_ask_the_pods():
    policy = one(model(V3), "NetworkPolicy")
    isvc = one(model(V3), "InferenceService")
    assert (
        policy["spec"]["podSelector"]["matchLabels"].items() <= isvc["metadata"]["labels"].items()
    )
    (inside,) = policy["spec"]["ingress"]
    namespaces = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in inside["from"]
        if "namespaceSelector" in peer
    ]
    assert namespaces == ["gateway", "monitoring", "kubeflow"]


def test_more_egress_is_added():
    extra = {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}
    policy = one(model(V3, networkPolicy={"egress": [extra]}), "NetworkPolicy")
    assert extra in policy["spec"]["egress"]
    assert not of(model(V3, networkPolicy={"enabled": False}), "NetworkPolicy")


def test_prometheus_finds_the_services_that_kserve_makes():
    assert not of(model(V3), "ServiceMonitor")
    objects = model(V3, serviceMonitor={"enabled": True, "labels": {"release": "mine"}})
    monitor = one(objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "mine"
    isvc = one(objects, "InferenceService")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= isvc["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == container(isvc)["ports"][0]["name"]
    # By these, rules and dashboards tell versions and parts of a model apart.
    assert monitor["spec"]["targetLabels"] == ["serving.kserve.io/inferenceservice", "component"]


def test_placement_reaches_the_pods():
    placed = {
        "nodeSelector": {"pool": "serving"},
        "tolerations": [{"key": "serving", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "imagePullSecrets": ["mine"],
        "args": ["--max_concurrency", "64"],
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}],
    }
    isvc = one(model(V3, server=placed), "InferenceService")
    pods = isvc["spec"]["predictor"]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pods[name] == placed[name]
    assert pods["imagePullSecrets"] == [{"name": "mine"}]
    assert flags(isvc)["--max_concurrency"] == "64"
    assert placed["env"][0] in container(isvc)["env"]


def test_the_image_by_digest():
    digest = "sha256:" + "a" * 64
    isvc = one(model(V3, server={"image": {"tag": "", "digest": digest}}), "InferenceService")
    assert container(isvc)["image"] == f"ghcr.io/slipway/serve@{digest}"


def test_a_model_may_wait_for_its_first_version():
    assert not of(model(), "InferenceService")
    assert weights(model(V3 | {"weight": 0})) == {"flight-delay-v3-predictor": 0}


def test_a_previous_version_is_a_record_and_no_pod():
    objects = model(V3, previous=V4)
    assert [item["metadata"]["name"] for item in of(objects, "InferenceService")] == [
        "flight-delay-v3"
    ]


@pytest.mark.parametrize(
    ("versions", "values", "sentence"),
    [
        ([V3, V3 | {"weight": 0}], {}, "version 3 is there twice; remove one entry"),
        ([V3 | {"weight": 90}], {}, "the weights add up to 90; make it 100, or 0"),
        (
            [V3 | {"storageUri": "models:/flight-delay/3"}],
            {},
            "KServe cannot read models:/flight-delay/3; give the address of the package",
        ),
        (
            [V3],
            {"server": {"mode": "split", "featureStore": {"enabled": False}}},
            "set server.featureStore.enabled, or server.mode: combined",
        ),
        ([V3], {"server": {"replicas": {"min": 3, "max": 2}}}, "min 3 is more than max 2"),
        ([V3], {"shadow": {"version": "9"}}, "9 is not one of `versions`; add it there"),
        ([V3], {"shadow": {"version": "3"}}, "version 3 gets requests already; give it weight 0"),
        (
            [V3, V4],
            {"shadow": {"version": "4"}, "route": {"enabled": False}},
            "there is no route to copy requests of; set route.enabled",
        ),
        (
            [V3],
            {"model": "a-very-long-name-of-a-model-forty-letters", "server": {}},
            "/model",
        ),
        (
            [V3 | {"version": "12345678901234567890"}],
            {"model": "a-long-name-of-a-model-of-forty-letters0"},
            "longer than 63 characters; give the model a shorter name",
        ),
        ([V3], {"server": {"image": {"tag": ""}}}, "give a tag or a digest"),
        ([V3 | {"wieght": 1}], {}, "additional properties 'wieght' not allowed"),
        ([V3], {"server": {"replica": 2}}, "additional properties 'replica' not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_fix(versions, values, sentence):
    values = copy.deepcopy(values)
    server = values.pop("server", None)
    assert sentence in refused(*versions, server=server, **values)


@pytest.mark.parametrize(
    "path",
    ["project.yaml", "examples/gapminder/project.yaml", "examples/seattle-weather/project.yaml"],
)
def test_the_chart_takes_what_a_contract_gives(path):
    contract = load_contract(ROOT / path)
    made = on.entry_of(contract, "7", "s3://mlflow/7/package", "ghcr.io/slipway/serve:abc")
    values = on.shift(on.put(on.of_cluster(contract.name), made), "7", on.ALL)
    objects = template("model", values, release=contract.name, namespace="models")
    isvc = one(objects, "InferenceService", f"{contract.name}-v7")
    assert ("--feature_store" in flags(isvc)) is bool(contract.views)
    assert container(isvc)["resources"]["requests"]["cpu"] == contract.serving.resources.cpu
