"""What the accounts of steps may do on a cluster, asked of the cluster itself."""

import json
from pathlib import Path

import pytest
import yaml

from ops.cluster import ClusterError

RIGHTS = yaml.safe_load((Path(__file__).parents[1] / "rights.yaml").read_text())
NAMESPACES = ("kubeflow", "models", "storage", "mlflow", "slipway-system", "default")
ANYBODY = {"authorization.k8s.io", "authentication.k8s.io"}
"""Every account may ask who it is and what it may do."""


def may(cluster, account, namespace):
    """resource -> verbs, as `kubectl auth can-i --list` has them, whose table is for people."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = cluster.kubectl(
        *("create", "--validate=false", "--filename", "-", "--output", "json"),
        *("--as", f"system:serviceaccount:kubeflow:{account}"),
        text=json.dumps(review),
    )
    found = {}
    for rule in json.loads(answer)["status"]["resourceRules"]:
        for group in set(rule["apiGroups"]) - ANYBODY:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or [""]:
                    key = (f"{group}/" if group else "") + resource + (f":{name}" if name else "")
                    found.setdefault(key, set()).update(rule["verbs"])
    return found


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_may_do_what_is_listed_and_nothing_else(platform, account):
    for namespace in NAMESPACES:
        listed = RIGHTS[account].get(namespace, {})
        expected = {resource: set(verbs) for resource, verbs in listed.items()}
        assert may(platform, account, namespace) == expected, namespace


@pytest.mark.parametrize(
    ("account", "verb", "what", "namespace"),
    [
        ("pipeline-runner", "create", "rayjobs.ray.io", "kubeflow"),
        ("pipeline-runner", "create", "inferenceservices.serving.kserve.io", "models"),
        ("pipeline-runner", "get", "secrets/slipway-steps", "kubeflow"),
        ("pipeline-trainer", "create", "pods", "kubeflow"),
        ("pipeline-trainer", "create", "inferenceservices.serving.kserve.io", "models"),
        ("pipeline-releaser", "create", "rayjobs.ray.io", "kubeflow"),
        ("pipeline-releaser", "get", "secrets", "models"),
        ("pipeline-releaser", "create", "rolebindings", "models"),
    ],
)
def test_a_step_may_not_do_what_is_another_ones(platform, account, verb, what, namespace):
    with pytest.raises(ClusterError):  # `can-i` ends with code 1 for "no"
        platform.kubectl(
            *("auth", "can-i", verb, what, "--namespace", namespace),
            *("--as", f"system:serviceaccount:kubeflow:{account}"),
        )
