"""images.lock lists what a cluster pulls: what is missing in it, a mirror or a bundle lacks."""

import re

import pytest

from slipway import images
from tests.charts import images_lock, rules
from tests.charts.render import CHARTS, REGISTRY, managed, profiles, releases, template

RELEASES = releases()
CHARTS_OF_OURS = sorted({release["chart"] for release in RELEASES.values() if "chart" in release})


def others(found):
    """Names of images that are not ours, without the digest, which the lock has beside them."""
    return {image.partition("@")[0] for image in found if not image.startswith(f"{REGISTRY}/")}


@pytest.mark.parametrize(
    ("profile", "release"), [(one, name) for one in profiles() for name in managed(one)]
)
def test_every_image_of_a_release_is_locked(profile, release):
    found = others(images_lock.of_release(release, profile))
    assert found <= set(images_lock.locked()), "run `make images-lock`"


@pytest.mark.parametrize("chart", [*CHARTS_OF_OURS, "model"])
def test_every_image_of_a_chart_with_everything_on_is_locked(chart):
    objects = template(chart, files=[CHARTS / chart / "ci" / "maximal-values.yaml"])
    found = {image for image in rules.images(objects) if "example." not in image}
    assert others(found) <= set(images_lock.locked())


def test_the_lock_holds_nothing_that_nobody_names():
    assert set(images_lock.locked()) == others(images_lock.named()), "run `make images-lock`"


def test_no_locked_image_is_refused_and_no_digest_is_made_up():
    lock = images_lock.locked()
    assert len(lock) > 20
    for image, entry in lock.items():
        assert not images_lock.refused(image)
        assert re.fullmatch(r"(sha256:[0-9a-f]{64})?", entry["digest"])


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("docker.io/library/redis", "neither tag nor digest"),
        ("localhost:5000/redis", "neither tag nor digest"),
        ("docker.io/library/redis:latest", "`latest`"),
        ("docker.io/minio/minio:RELEASE.2025", "no images are published"),
        ("docker.io/bitnami/redis:7", "bitnamilegacy"),
        ("gcr.io/ml-pipeline/api-server:2.0", "shut down"),
        ("registry.k8s.io/ingress-nginx/controller:v1", "retired"),
    ],
)
def test_an_image_that_must_not_be_used_is_refused_with_the_reason(image, why):
    assert why in images_lock.refused(image)


def test_a_name_that_only_begins_alike_is_not_refused():
    assert not images_lock.refused("docker.io/bitnamix/redis:7")


def test_steps_run_in_images_that_are_built_here():
    for name in ("DATA", "TRAIN", "TOOLS"):
        assert rules.parts(getattr(images, name))[0].endswith(name.lower())
