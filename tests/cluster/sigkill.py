"""SIGKILL for a container of a pod: nothing in it can answer, finish or tidy up.

`kubectl delete` asks first, and process 1 cannot be killed from inside its own pod; so a pod on the
node does it. It lives in kube-system, whose pods may see the node's processes.
"""

from __future__ import annotations

import json
import secrets

from ops.cluster import Cluster, wait

_SCRIPT = """
killed=
for process in /proc/[0-9]*; do
  grep -q "$CONTAINER" "$process/cgroup" 2>/dev/null || continue
  kill -9 "${process#/proc/}" && killed=yes
done
test -n "$killed"
"""


def sigkill(cluster: Cluster, namespace: str, pod: str) -> None:
    """Kill every process of the pod's first container, at once."""
    found = cluster.one("pod", pod, namespace)
    assert found, f"there is no pod {namespace}/{pod}"
    container = found["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    # Any image with a shell that the node has.
    database = cluster.one("statefulset", "mariadb", "storage")
    assert database, "the image of the store mariadb is used here"
    image = database["spec"]["template"]["spec"]["containers"][0]["image"]
    name = f"sigkill-{secrets.token_hex(3)}"
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "hostPID": True,
            "nodeName": found["spec"]["nodeName"],
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "sigkill",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-c", _SCRIPT],
                    "env": [{"name": "CONTAINER", "value": container}],
                    "securityContext": {"runAsUser": 0},
                    "resources": {"limits": {"memory": "64Mi"}},
                }
            ],
        },
    }
    cluster.kubectl("apply", "--filename", "-", text=json.dumps(manifest))
    try:
        for _ in wait(60, 0.2):
            killer = cluster.one("pod", name, "kube-system")
            phase = killer["status"]["phase"] if killer else ""
            if phase == "Succeeded":
                return
            assert phase != "Failed", f"no process of {namespace}/{pod} was found on its node"
        raise AssertionError("the pod that kills did not run within 60 s")
    finally:
        cluster.kubectl("delete", "pod", name, "--namespace", "kube-system", "--wait=false")
