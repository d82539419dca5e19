"""A model package that was altered on its way must not be served."""

import pytest

from slipway.errors import UserError
from slipway.package import CHECKSUMS, REQUIRED, digest, seal, verify


@pytest.fixture
def package(tmp_path):
    for name in REQUIRED:
        (tmp_path / name).write_text(name)
    seal(tmp_path)
    return tmp_path


def test_a_sealed_package_is_accepted(package):
    verify(package)


def test_an_altered_file_is_named(package):
    (package / "model.onnx").write_text("another model")
    with pytest.raises(UserError, match=r"model\.onnx altered"):
        verify(package)


def test_a_missing_file_is_named(package):
    (package / "encoder.json").unlink()
    with pytest.raises(UserError, match=r"encoder\.json missing"):
        verify(package)


def test_a_strangers_file_is_named(package):
    (package / "payload.pkl").write_text("!")
    with pytest.raises(UserError, match=r"payload\.pkl not listed"):
        verify(package)


def test_a_package_without_a_required_file_is_refused_even_if_sealed_so(package):
    (package / "contract.yaml").unlink()
    seal(package)
    with pytest.raises(UserError, match=r"contract\.yaml missing"):
        verify(package)


def test_a_folder_that_is_no_package_is_refused(tmp_path):
    with pytest.raises(UserError, match=CHECKSUMS):
        verify(tmp_path)


def test_the_digest_depends_on_content_alone(package, tmp_path_factory):
    twin = tmp_path_factory.mktemp("twin")
    for name in reversed(REQUIRED):
        (twin / name).write_text(name)
    assert seal(twin) == digest(package)
    (twin / "metrics.json").write_text("{}")
    assert seal(twin) != digest(package)
