"""What a server does when clients are many, slow, rude or large, and when it is told to change."""

import asyncio
import json
import os
import re
import select
import shutil
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest
from numbers_model import write_numbers

from serving.endpoint import serving
from slipway import names
from slipway.package import digest

pytestmark = pytest.mark.local
ROW = [1.0, 2.0, 3.0, 4.0]
BODY = json.dumps({"instances": [ROW]}).encode()
PREDICT = "/v1/models/m:predict"
REQUEST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
    PREDICT.encode(), len(BODY), BODY
)  # fmt: skip


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    return write_numbers(folder / "one", 1.0), write_numbers(folder / "two", 2.0)


@contextmanager
def server(package, folder, *flags):
    with serving("m", package, folder, "predictor", *flags) as endpoint:
        endpoint.wait_until_ready()
        yield endpoint


@pytest.fixture(scope="module")
def shared(packages, tmp_path_factory):
    with server(
        packages[0], tmp_path_factory.mktemp("shared"), "--read_timeout", "1.5"
    ) as endpoint:
        yield endpoint


@pytest.fixture
def client(shared):
    with httpx.Client(base_url=shared.url, trust_env=False, timeout=30) as client:
        yield client


def connect(endpoint):
    return socket.create_connection(("127.0.0.1", endpoint.port), timeout=20)


def all_of(connection):
    """Everything that comes until the server closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


class Load:
    """Clients that ask all the time until they are refused a connection."""

    def __init__(self, port, clients, kept):
        self.answers: list[tuple[int, float]] = []
        self.lost: list[str] = []
        self._port, self._clients, self._kept = port, clients, kept
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        while len(self.answers) < 200:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._stopping = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _run(self):
        await asyncio.gather(*(self._client() for _ in range(self._clients)))

    async def _client(self):
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return
            try:
                while not self._stopping:
                    writer.write(REQUEST)
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(re.search(rb"content-length: (\d+)", head)[1])
                    body = json.loads(await reader.readexactly(size))
                    found = body.get("predictions", [float("nan")])[0]
                    self.answers.append((int(head[9:12]), found))
                    if b"connection: close" in head or not self._kept:
                        break
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            finally:
                writer.close()


# The end


@pytest.mark.parametrize(("kept", "workers"), [(True, 1), (False, 1), (True, 2)])
def test_a_server_that_is_told_to_end_loses_no_request(packages, tmp_path, kept, workers):
    with server(packages[0], tmp_path, "--workers", str(workers)) as endpoint:
        with Load(endpoint.port, 24, kept) as load:
            endpoint.process.send_signal(signal.SIGTERM)
            assert endpoint.process.wait(20) == 0
        assert load.lost == []
        assert {status for status, _ in load.answers} == {200}
        assert {round(found, 4) for _, found in load.answers} == {10.0}


def test_a_server_that_drains_says_so_to_its_probe_and_finishes_what_came(packages, tmp_path):
    with server(packages[0], tmp_path) as endpoint, connect(endpoint) as slow:
        slow.sendall(REQUEST[:-5])
        time.sleep(0.1)
        with connect(endpoint) as probe:
            endpoint.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            probe.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = all_of(probe)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer
        slow.sendall(REQUEST[-5:])
        assert b"200 OK" in all_of(slow)
        assert endpoint.process.wait(20) == 0


# Another version


def test_a_new_version_is_swapped_in_without_a_lost_or_a_mixed_answer(packages, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(packages[0])
    with server(link, tmp_path / "log") as endpoint:
        with Load(endpoint.port, 16, kept=True) as load:
            for turn in range(1, 5):
                (tmp_path / "next").symlink_to(packages[turn % 2])
                os.replace(tmp_path / "next", link)
                version = digest(packages[turn % 2])[:12]
                if turn % 2:
                    endpoint.process.send_signal(signal.SIGHUP)
                else:
                    url = f"{endpoint.url}/v2/repository/models/m/load"
                    assert httpx.post(url, trust_env=False).status_code == 200
                wait_for(lambda: served(endpoint) == version)  # noqa: B023
        assert load.lost == []
        assert {status for status, _ in load.answers} == {200}
        assert {round(found, 3) for _, found in load.answers} == {10.0, 20.0}


def test_a_tampered_package_is_refused_and_the_old_one_keeps_serving(packages, tmp_path):
    package = shutil.copytree(packages[0], tmp_path / "package")
    with (
        server(package, tmp_path / "log") as endpoint,
        httpx.Client(base_url=endpoint.url, trust_env=False) as client,
    ):
        with (package / "model.onnx").open("ab") as file:
            file.write(b"x")
        answer = client.post("/v2/repository/models/m/load")
        assert answer.status_code == 409
        assert "model.onnx altered" in answer.json()["error"]
        endpoint.process.send_signal(signal.SIGHUP)
        wait_for(lambda: endpoint.log.read_text().count("the package is refused") == 2)
        assert client.post(PREDICT, content=BODY).json() == {"predictions": [pytest.approx(10)]}


def test_an_unloaded_model_is_a_503_until_it_is_loaded_again(packages, tmp_path):
    flags = ("--workers", "2")
    with server(packages[0], tmp_path, *flags) as endpoint:

        def ask(method, path):
            # A new connection each time reaches every worker in the end.
            return httpx.request(method, endpoint.url + path, trust_env=False, timeout=10)

        def all_say(status):
            found = {ask("GET", "/v2/models/m/ready").status_code for _ in range(12)}
            return found == {status}

        for _ in range(2):
            assert ask("POST", "/v2/repository/models/m/unload").status_code == 200
            wait_for(lambda: all_say(503))
            answer = httpx.post(endpoint.url + PREDICT, content=BODY, trust_env=False)
            assert answer.status_code == 503
            assert answer.json() == {"error": "The model 'm' is unloaded."}
            assert ask("GET", "/v2/health/live").status_code == 200
            assert ask("POST", "/v2/repository/models/m/load").status_code == 200
            wait_for(lambda: all_say(200))


# Several workers


def test_what_workers_count_adds_up_and_a_killed_one_is_replaced(packages, tmp_path):
    with server(packages[0], tmp_path, "--workers", "2") as endpoint:

        def ask(path=PREDICT, **more):
            with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=10) as client:
                return client.request(more.pop("method", "POST"), path, **more)

        def counted():
            text = ask("/metrics", method="GET").text
            found = re.search(rf'^{names.REQUESTS}\{{code="200",.*"v1",.*\}} (\S+)$', text, re.M)
            return float(found[1])

        for _ in range(60):
            assert ask(content=BODY).status_code == 200
        wait_for(lambda: counted() == 60)
        parent = psutil.Process(endpoint.process.pid)
        old = [child for child in parent.children() if child.num_fds() > 5]
        # A worker that ends soon after its start would do so again: then the server ends.
        wait_for(lambda: time.time() - old[0].create_time() > 10.5)
        old[-1].kill()
        wait_for(lambda: f"worker {old[-1].pid} ended" in endpoint.log.read_text())
        for _ in range(60):
            assert ask(content=BODY).status_code == 200
        wait_for(lambda: counted() == 120)


# Slow and rude clients


def test_stalled_clients_are_hung_up_on_and_hurt_nobody(shared, client):
    stalled = [connect(shared) for _ in range(200)]
    for number, connection in enumerate(stalled):
        connection.sendall(REQUEST[: 1 + number % (len(REQUEST) - 1)])
    for _ in range(100):
        assert client.post(PREDICT, content=BODY).status_code == 200
    for connection in stalled:
        answer = all_of(connection)
        connection.close()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'{"error":"The request was not whole after 1.5 s."}' in answer


def test_a_client_that_trickles_its_request_is_hung_up_on(shared):
    with connect(shared) as connection:
        started = time.monotonic()
        for byte in REQUEST:
            connection.sendall(bytes([byte]))
            if select.select([connection], [], [], 0.1)[0]:
                break
        assert time.monotonic() - started > 1.5
        assert all_of(connection).startswith(b"HTTP/1.1 408")


def test_a_client_that_never_reads_is_given_up(packages, tmp_path):
    with (
        server(packages[0], tmp_path, "--read_timeout", "1") as endpoint,
        connect(endpoint) as connection,
    ):
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        with suppress(ConnectionError):
            for _ in range(100_000):
                connection.sendall(ask * 100)
            pytest.fail("it went on writing")
        memory = psutil.Process(endpoint.process.pid).memory_info().rss
        assert memory < 130 * 2**20


def test_requests_sent_ahead_are_answered_in_their_order(shared):
    with connect(shared) as connection:
        bodies = [json.dumps({"instances": [[n, 0, 0, 0]]}).encode() for n in range(50)]
        connection.sendall(
            b"".join(
                b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (PREDICT.encode(), len(b), b)
                for b in bodies
            )
        )
        connection.shutdown(socket.SHUT_WR)
        found = re.findall(rb'"predictions":\[(\S+?)\]', all_of(connection))
        assert [round(float(value), 3) for value in found] == list(range(50))


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GARBAGE\r\n\r\n", 400, b"not HTTP/1.1"),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", 405, b"no proxy"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000, 431, b"headers are larger"),
        (b"GET /" + b"x" * 70_000, 431, b"headers are larger"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            b"not HTTP/1.1",
        ),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, b"not HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", 413, b"larger than"),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
            400,
            b"not HTTP/1.1",
        ),
        (b"GET / HTTP/1.0\r\n\r\n", 200, b"alive"),
        (b"GET /%ff%00%0a HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"nothing here"),
    ],
)
def test_rude_bytes_get_an_answer_of_the_protocol_and_a_closed_connection(
    shared, sent, status, words
):
    with connect(shared) as connection:
        connection.sendall(sent)
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert words in body
    assert list(json.loads(body)) == ["error" if status != 200 else "status"]


def test_a_refused_client_can_read_why_while_it_still_sends(shared):
    with connect(shared) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b" " * 100_000)
        time.sleep(0.05)
        connection.sendall(b" " * 100_000)
        assert b"The body is larger than 16777216 bytes" in all_of(connection)


# Too much


def test_bodies_that_wait_are_bounded_over_all_clients(packages, tmp_path):
    size = 16 * 2**20
    head = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (PREDICT.encode(), size)
    with server(packages[0], tmp_path) as endpoint:
        before = psutil.Process(endpoint.process.pid).memory_info().rss
        clients = [connect(endpoint) for _ in range(24)]
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(head + b" " * (size - 1))
        refused = select.select(clients, [], [], 0.5)[0]
        assert 4 <= len(refused) <= 12
        for client in refused:
            assert client.recv(65536).startswith(b"HTTP/1.1 503")
        memory = psutil.Process(endpoint.process.pid).memory_info().rss
        assert memory - before < 400 * 2**20
        for client in clients:
            client.close()
        # What is let go may be taken again.
        wait_for(lambda: accepts(endpoint, head + b" " * size))


def accepts(endpoint, request):
    with connect(endpoint) as connection:
        connection.sendall(request)
        return connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_health_answers_while_large_batches_run_and_what_is_too_much_is_told_to_come_again(
    packages, tmp_path
):
    many = json.dumps({"instances": [ROW] * 10_000}).encode()
    with server(packages[0], tmp_path, "--max_concurrency", "6") as endpoint:

        async def run():
            async with httpx.AsyncClient(
                base_url=endpoint.url, trust_env=False, timeout=60, limits=httpx.Limits()
            ) as client:
                batches = [
                    asyncio.ensure_future(client.post(PREDICT, content=many)) for _ in range(40)
                ]
                healthy = 0
                while not all(batch.done() for batch in batches):
                    live = await client.get("/v2/health/live")
                    assert live.status_code == 200
                    healthy += 1
                return healthy, [batch.result() for batch in batches]

        healthy, answers = asyncio.run(run())
        assert healthy > 1
        assert {answer.status_code for answer in answers} <= {200, 503}
        for answer in answers:
            if answer.status_code == 200:
                assert len(answer.json()["predictions"]) == 10_000
            else:
                assert answer.headers["retry-after"] == "1"
                assert "try again later" in answer.json()["error"]
        more = json.dumps({"instances": [ROW] * 10_001}).encode()
        answer = httpx.post(endpoint.url + PREDICT, content=more, trust_env=False)
        assert answer.status_code == 413
        assert "at most 10000 rows in a request, got 10001" in answer.json()["error"]


def test_what_takes_longer_than_allowed_is_a_504(packages, tmp_path):
    many = json.dumps({"instances": [ROW] * 10_000}).encode()
    with (
        server(packages[0], tmp_path, "--timeout", "0.002") as endpoint,
        httpx.Client(base_url=endpoint.url, trust_env=False) as client,
    ):
        answer = client.post(PREDICT, content=many)
        assert answer.status_code == 504
        assert answer.json() == {"error": "The answer took longer than allowed."}
        assert client.post(PREDICT, content=BODY).status_code == 200


def served(endpoint):
    answer = httpx.get(f"{endpoint.url}/v2/models/m", trust_env=False)
    return answer.json()["versions"][0]


def wait_for(check, seconds=30):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)
