"""Two deploys of a cluster do not meet, also when one of them slept."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ops import lease
from ops.cluster import ClusterError
from ops.lease import _take, exclusive, wait_until_free
from slipway.errors import UserError


class Cluster:
    """The API server, as far as one Lease goes: versions are compared, as it does."""

    def __init__(self):
        self.lease = None
        self.version = 0

    def one(self, kind, name, namespace):
        return json.loads(json.dumps(self.lease))

    def kubectl(self, verb, *args, text=None):
        if verb == "delete":
            self.lease = None
            return
        new = json.loads(text)
        if verb == "create" and self.lease:
            raise ClusterError("AlreadyExists")
        if verb == "replace" and new["metadata"]["resourceVersion"] != str(self.version):
            raise ClusterError("Conflict")
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        self.lease = new

    def age(self, seconds):
        """As if nobody had renewed it for so long."""
        then = datetime.now(UTC) - timedelta(seconds=seconds)
        self.lease["spec"]["renewTime"] = then.isoformat()


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(lease, "wait", lambda seconds, pause: iter(range(2)))
    return Cluster()


def test_it_is_renewed_and_given_back(cluster):
    with exclusive(cluster, print) as renew:
        acquired = cluster.lease["spec"]["acquireTime"]
        cluster.age(20)
        renew()
        assert cluster.lease["spec"]["acquireTime"] == acquired
        renewed = datetime.fromisoformat(cluster.lease["spec"]["renewTime"])
        assert datetime.now(UTC) - renewed < timedelta(seconds=5)
    assert cluster.lease is None


def test_a_second_deploy_is_refused_while_the_first_renews(cluster):
    _take(cluster, "other:1")
    held = cluster.lease
    with (
        pytest.raises(UserError, match=r"another deploy of this cluster is at work \(other:1"),
        exclusive(cluster, print),
    ):
        pass
    assert cluster.lease == held


def test_one_that_was_killed_is_followed(cluster):
    _take(cluster, "killed:1")
    cluster.age(60)
    with exclusive(cluster, print):
        assert cluster.lease["spec"]["holderIdentity"] != "killed:1"


def test_who_slept_neither_takes_the_lease_back_nor_frees_it(cluster):
    with exclusive(cluster, print) as renew:
        cluster.age(60)  # a laptop's lid
        _take(cluster, "other:1")
        taken = cluster.lease
        with pytest.raises(UserError, match="another deploy of this cluster"):
            renew()
    assert cluster.lease == taken


def test_down_waits_for_a_deploy_that_is_at_work(cluster):
    wait_until_free(cluster, print)
    with exclusive(cluster, print), pytest.raises(UserError, match="is at work"):
        wait_until_free(cluster, print)
