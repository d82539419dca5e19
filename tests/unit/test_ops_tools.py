"""Programs that we call: the right version from PATH, or a pinned download, or a clear refusal."""

import hashlib
import http.server
import threading

import pytest
import yaml

from ops import doctor, tools
from slipway.errors import UserError


@pytest.fixture
def server(tmp_path):
    """Serves a folder on loopback."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *of, **more):
            super().__init__(*of, directory=str(folder), **more)

        def log_message(self, *of):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    """Pins of our own, an empty PATH, and a folder for downloads."""

    def pin(**pins):
        (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": pins}))

    monkeypatch.setattr(tools, "CHARTS", tmp_path)
    monkeypatch.setattr(tools, "FOLDER", tmp_path / "tools")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return pin


def kind_pin(url="", **sums):
    return {
        "version": "1.2.3",
        "accept": ">=1.2,<2",
        "url": url,
        "install": "https://kind.example",
        "sha256": sums,
    }


@pytest.mark.parametrize(
    ("version", "fits"),
    [("1.33.0", True), ("1.37.9", True), ("1.32.9", False), ("1.38.0", False), ("2.0.0", False)],
)
def test_a_version_lies_in_its_range_or_not(version, fits):
    assert tools.accepted(version, ">=1.33,<1.38") is fits


def test_the_pins_are_complete_and_every_sum_is_one():
    for name, pin in tools.pins().items():
        assert tools.accepted(pin["version"], pin["accept"]), name
        assert name in tools.VERSION_COMMANDS
        assert pin["url"].startswith("https://")
        for place, wanted in pin["sha256"].items():
            assert place.split("-")[0] in ("linux", "darwin")
            assert len(wanted) == 64
            assert int(wanted, 16)


def test_a_tool_is_downloaded_once_and_checked(server, pinned):
    folder, url = server
    program = b"#!/bin/sh\necho kind v1.2.3\n"
    (folder / "kind").write_bytes(program)
    pinned(kind=kind_pin(f"{url}/kind", **{tools.machine(): hashlib.sha256(program).hexdigest()}))
    [found] = tools.prepare("kind")
    assert found.version == "1.2.3"
    (folder / "kind").unlink()
    [again] = tools.prepare("kind")
    assert again.path == found.path


def test_a_download_that_was_changed_is_refused_and_leaves_nothing(server, pinned):
    folder, url = server
    (folder / "kind").write_bytes(b"another")
    pinned(kind=kind_pin(f"{url}/kind", **{tools.machine(): "0" * 64}))
    with pytest.raises(UserError, match=r"has the SHA-256 .* and charts/tools.yaml says 000"):
        tools.prepare("kind")
    assert not list(tools.FOLDER.iterdir())


def test_without_a_pinned_sum_nothing_is_downloaded(pinned):
    pinned(kind=kind_pin("https://unreachable.invalid"))
    with pytest.raises(UserError, match=r"no checksum of kind 1\.2\.3 .* Install it: https://kind"):
        tools.prepare("kind")


def test_a_download_that_fails_says_so(pinned):
    pinned(kind=kind_pin("http://127.0.0.1:9/kind", **{tools.machine(): "0" * 64}))
    with pytest.raises(
        UserError,
        match=r"kind >=1.2,<2 is not on PATH and cannot be downloaded .* install it: https://kind",
    ):
        tools.prepare("kind")


def test_an_old_tool_on_path_is_not_taken(pinned, tmp_path, monkeypatch):
    old = tmp_path / "bin" / "kind"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho kind v1.1.0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    pinned(kind=kind_pin("https://unreachable.invalid"))
    assert tools.find("kind") is None
    check = doctor.tool("kind")
    assert not check.ok
    assert "1.1.0" in check.found
    assert "Install kind >=1.2,<2" in check.mend


def test_every_failed_check_of_the_doctor_has_a_mend():
    for check in doctor.examine():
        assert check.found
        assert check.ok or check.mend or check.warning


def test_low_inotify_limits_come_with_the_command(monkeypatch):
    monkeypatch.setattr(doctor, "INOTIFY", {"max_user_watches": 10**9, "max_user_instances": 1})
    check = doctor.inotify()
    if check.found.startswith("not a matter"):
        pytest.skip("no inotify here")
    assert not check.ok
    assert "sudo sysctl -w fs.inotify.max_user_watches=1000000000`" in check.mend


def test_a_port_that_is_taken_is_seen(monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(doctor, "PORT", one.getsockname()[1])
        check = doctor.port()
    assert not check.ok
    assert "hostPort" in check.mend
    assert doctor.port().ok


def test_a_second_deploy_kind_needs_no_room_for_what_is_there(monkeypatch):
    import shutil

    gib = 2**30
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 9 * gib))
    monkeypatch.setattr(doctor, "_is_up", lambda: False)
    check = doctor.disk()
    assert not check.ok
    assert "At least 25 GiB" in check.mend
    monkeypatch.setattr(doctor, "_is_up", lambda: True)
    assert doctor.disk().ok


def test_the_doctor_calls_what_a_deploy_has_downloaded(pinned, monkeypatch):
    """Else a second `make deploy-kind` would not see its own cluster."""
    pinned(kind=kind_pin())
    tools.FOLDER.mkdir()
    (tools.FOLDER / "kind").write_text("#!/bin/sh\necho kind v1.2.3\n")
    (tools.FOLDER / "kind").chmod(0o755)
    monkeypatch.setattr(doctor, "clock", lambda: doctor.Check("clock", True, "right"))
    doctor.room.cache_clear()
    checks = {check.name: check for check in doctor.examine()}
    assert checks["kind"].ok
    assert doctor.shutil.which("kind") == str(tools.FOLDER / "kind")
    before = doctor.os.environ["PATH"]
    tools.prepare("kind")
    assert doctor.os.environ["PATH"] == before
