"""What the accounts of steps may do, as the charts say it, is what tests/rights.yaml lists."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from tests.charts.render import render

RIGHTS = yaml.safe_load((Path(__file__).parents[1] / "rights.yaml").read_text())


def granted(account):
    """namespace -> resource -> verbs, of everything that release kfp binds to the account."""
    objects = render("kfp", "laptop")
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] in ("Role", "ClusterRole")
    }
    found = {}
    for one in objects:
        subjects = {subject["name"] for subject in one.get("subjects") or []}
        if one["kind"] == "ClusterRoleBinding":
            assert account not in subjects, "a right in every namespace"
        if one["kind"] == "RoleBinding" and account in subjects:
            namespace = one["metadata"]["namespace"]
            resources = found.setdefault(namespace, {})
            for rule in roles[one["roleRef"]["kind"], namespace, one["roleRef"]["name"]]:
                add(resources, rule)
    return found


def add(resources, rule):
    names = [f":{name}" for name in rule.get("resourceNames", [])] or [""]
    for group, resource, name in product(rule["apiGroups"], rule["resources"], names):
        key = (f"{group}/" if group else "") + resource + name
        resources.setdefault(key, set()).update(rule["verbs"])


def as_sets(rights):
    return {
        namespace: {resource: set(verbs) for resource, verbs in resources.items()}
        for namespace, resources in rights.items()
    }


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_may_do_what_is_listed_and_nothing_else(account):
    assert granted(account) == as_sets(RIGHTS[account])


def test_no_account_of_steps_may_do_everything_to_anything():
    for account in RIGHTS:
        for resources in granted(account).values():
            for resource, verbs in resources.items():
                assert "*" not in resource
                assert "*" not in verbs
                assert "/exec" not in resource


def test_every_account_that_the_pipeline_names_exists(tmp_path):
    from pipelines.compile import compile_training
    from slipway.project import Project

    project = Project.load(Path(__file__).parents[2] / "project.yaml")
    file = compile_training(project, "/app/project.yaml", tmp_path / "training.yaml")
    _, platform = yaml.safe_load_all(file.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = [one.get("podMetadata", {}).get("labels", {}) for one in executors.values()]
    # KFP numbers the labels of a step that has two, and the rule of the chart finds neither.
    assert all(set(one) <= {"slipway/service-account"} for one in labels)
    named = {account for one in labels for account in one.values()}
    made = {
        one["metadata"]["name"]
        for one in render("kfp", "laptop")
        if one["kind"] == "ServiceAccount"
    }
    assert named
    assert named <= made
