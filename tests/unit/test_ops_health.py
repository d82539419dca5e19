"""What a person reads when something on the cluster is not well."""

import pytest

from ops.health import problems

AT = "2026-11-21T10:00:00Z"


def meta(name, owner=None, **more):
    found = {"name": name, "namespace": "kubeflow", "uid": f"uid-{name}", "creationTimestamp": AT}
    if owner:
        found["ownerReferences"] = [{"kind": owner["kind"], "uid": owner["metadata"]["uid"]}]
    return found | more


def deployment(name="api", ready=0, replicas=1):
    return {
        "kind": "Deployment",
        "metadata": meta(name, generation=1),
        "spec": {"replicas": replicas},
        "status": {
            "readyReplicas": ready,
            "updatedReplicas": replicas,
            "observedGeneration": 1,
        },
    }


def replica_set(owner):
    return {"kind": "ReplicaSet", "metadata": meta(f"{owner['metadata']['name']}-1", owner)}


def pod(owner, conditions=(), containers=(), inits=(), phase="Pending"):
    return {
        "kind": "Pod",
        "metadata": meta("pod", owner),
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": list(containers),
            "initContainerStatuses": list(inits),
        },
    }


def event(about, reason, message, at=AT):
    return {
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "kubeflow", "creationTimestamp": at},
        "involvedObject": {
            "kind": about["kind"],
            "name": about["metadata"]["name"],
            "namespace": about["metadata"]["namespace"],
        },
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


def waiting(reason, message="", **more):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "main", "image": "ghcr.io/a/b:1", "state": state} | more


def told(*objects, logs=None):
    found = problems(objects, logs or (lambda *_: ""))
    assert len(found) == 1, found
    return str(found[0])


def test_what_is_well_is_not_mentioned():
    one = deployment(ready=1)
    assert not problems([one, replica_set(one)])


def test_an_image_that_cannot_be_pulled_is_named():
    one = deployment()
    made = replica_set(one)
    broken = pod(made, containers=[waiting("ImagePullBackOff", "Back-off pulling")])
    said = event(broken, "Failed", "failed to pull: ghcr.io/a/b:1: not found")
    text = told(one, made, broken, said)
    assert "Deployment kubeflow/api: 0 of 1 ready: the image ghcr.io/a/b:1 cannot be pulled" in text
    assert "not found" in text


def test_a_secret_that_is_missing_is_named_with_its_mend():
    one = deployment()
    made = replica_set(one)
    broken = pod(
        made, containers=[waiting("CreateContainerConfigError", 'secret "mlflow" not found')]
    )
    assert 'secret "mlflow" not found. Make it' in told(one, made, broken)


def test_a_crash_loop_shows_the_last_line_of_its_log():
    one = deployment()
    made = replica_set(one)
    ended = {"terminated": {"exitCode": 2, "reason": "Error"}}
    broken = pod(made, containers=[waiting("CrashLoopBackOff", lastState=ended)])
    asked = []

    def logs(*of):
        asked.append(of)
        return "error: no such table"

    text = told(one, made, broken, logs=logs)
    assert 'keeps ending (exit code 2), its last line: "error: no such table".' in text
    assert asked == [("kubeflow", "pod", "main", True)]


def test_out_of_memory_is_said_in_words():
    one = deployment()
    made = replica_set(one)
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    broken = pod(made, containers=[waiting("CrashLoopBackOff", lastState=ended)])
    assert "out of memory" in told(one, made, broken)


def test_a_pod_that_fits_nowhere_says_what_lacks():
    one = deployment()
    made = replica_set(one)
    lacks = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    assert "cannot be scheduled: 0/1 nodes are available: 1 Insufficient cpu" in told(
        one, made, pod(made, conditions=[lacks])
    )


def test_kserves_webhook_is_known_with_the_command_that_brings_the_service_back():
    one = deployment("flight-delay-predictor")
    made = replica_set(one)
    said = event(
        made,
        "FailedCreate",
        "Error creating: Internal error occurred: failed calling webhook "
        '"inferenceservice.kserve-webhook-server.pod-mutator": connection refused',
    )
    text = told(one, made, said)
    assert "KServe's pod webhook did not answer" in text
    assert "kubectl -n kubeflow annotate replicaset flight-delay-predictor-1 slipway/retry" in text


def test_an_init_container_that_waits_tells_for_what():
    one = deployment()
    made = replica_set(one)
    init = {"name": "wait", "image": "i", "state": {"running": {}}}
    text = told(
        one, made, pod(made, inits=[init]), logs=lambda *_: "waiting for tcp://mariadb.storage:3306"
    )
    assert text.endswith("0 of 1 ready: wait: waiting for tcp://mariadb.storage:3306")


def test_a_claim_without_a_volume_says_why():
    claim = {
        "kind": "PersistentVolumeClaim",
        "metadata": meta("data"),
        "spec": {"storageClassName": "fast"},
        "status": {"phase": "Pending"},
    }
    said = event(claim, "ProvisioningFailed", 'storageclass "fast" not found')
    assert 'has no volume from fast: storageclass "fast" not found' in told(claim, said)


@pytest.mark.parametrize(("owned", "warning"), [(False, False), (True, True)])
def test_a_failed_job_is_a_problem_and_one_of_a_cron_job_a_warning(owned, warning):
    cron = {"kind": "CronJob", "metadata": meta("cron")}
    job = {
        "kind": "Job",
        "metadata": meta("secrets", cron if owned else None),
        "spec": {},
        "status": {"conditions": [{"type": "Failed", "status": "True", "message": "deadline"}]},
    }
    [found] = problems([job])
    assert found.warning is warning
    assert "failed: deadline" in found.why


def test_a_node_under_disk_pressure_comes_with_its_mend():
    node = {
        "kind": "Node",
        "metadata": {"name": "n"},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "DiskPressure", "status": "True", "message": "low on disk"},
            ]
        },
    }
    assert told(node) == "node n: has DiskPressure (low on disk). Free disk space on it."


def test_an_inference_service_tells_what_its_model_lacks():
    service = {
        "kind": "InferenceService",
        "metadata": meta("flight-delay"),
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False"},
                {"type": "Stopped", "status": "False"},
                {"type": "PredictorReady", "status": "False", "message": "no pods."},
            ]
        },
    }
    assert "not ready (PredictorReady: no pods)." in told(service)
    service["status"]["modelStatus"] = {"lastFailureInfo": {"message": "no such bucket"}}
    assert "not ready (no such bucket)." in told(service)


def test_an_unknown_runtime_is_seen_though_the_service_says_ready():
    service = {
        "kind": "InferenceService",
        "metadata": meta("flight-delay"),
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "modelStatus": {"transitionStatus": "InvalidSpec"},
        },
    }
    assert "invalid" in told(service)


def test_a_job_that_waits_tells_for_what_without_being_unhealthy():
    job = {"kind": "Job", "metadata": meta("buckets"), "spec": {}, "status": {"active": 1}}
    at_work = {"name": "main", "image": "i", "state": {"running": {}}}
    running = pod(job, containers=[at_work], phase="Running")
    [found] = problems([job, running], lambda *_: "waiting for http://s3:9000 (no such name yet)")
    assert found.warning
    assert found.why == "is at work: waiting for http://s3:9000 (no such name yet)"


def test_a_job_between_two_tries_tells_how_the_last_one_ended():
    job = {"kind": "Job", "metadata": meta("buckets"), "spec": {}, "status": {"failed": 1}}
    ended = {"name": "main", "image": "i", "state": {"terminated": {"exitCode": 1}}}
    failed = pod(job, containers=[ended], phase="Failed")
    assert 'ended (exit code 1), its last line: "no S3".' in told(
        job, failed, logs=lambda *_: "no S3"
    )
    done = {"type": "Complete", "status": "True"}
    assert not problems([job | {"status": {"conditions": [done]}}, failed])
