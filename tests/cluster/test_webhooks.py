"""KServe's webhooks answer while their certificate is renewed; the manager is not restarted."""

from datetime import timedelta

import pytest

from ops import webhook_certificate as certificate
from ops.cluster import wait


def managers(cluster):
    """Restarts of the manager's pods, by uid."""
    found = cluster.get(
        "pods", namespace=certificate.NAMESPACE, selector="control-plane=kserve-controller-manager"
    )
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0] for pod in found}


@pytest.mark.slow
def test_a_renewed_certificate_is_used_without_a_restart_or_a_refusal(platform, monkeypatch):
    if platform.knows("certificates.cert-manager.io"):
        pytest.skip("cert-manager renews the certificate of this cluster")
    before = managers(platform)
    with monkeypatch.context() as soon:
        soon.setattr(certificate, "RENEW", certificate.LIFE + timedelta(days=1))
        assert any("a certificate until" in line for line in certificate.ensure(platform))
    assert certificate.ensure(platform) == []

    # A kubelet brings a changed secret into its pods within about a minute.
    for _ in wait(100, pause=2):
        certificate._answer(platform)
    after = managers(platform)
    assert set(after) == set(before)
    assert all(after[uid]["restartCount"] == before[uid]["restartCount"] for uid in before)
