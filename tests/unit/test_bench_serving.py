"""The serving benchmark's verdicts: a bar that was missed, or could not be measured, is seen."""

import re
from xml.etree import ElementTree

import pytest

from benchmarks.serving.bars import bars
from benchmarks.serving.cases import CASES, Case, Question, WrongAnswer, check, read_http
from benchmarks.serving.load import Load, read_h2load
from benchmarks.serving.peers import PEERS
from benchmarks.serving.report import page, picture, stock_of
from benchmarks.serving.results import Results

ASKED = {(peer.name, case) for peer in PEERS for case in CASES if case.protocol in peer.paths}


def measured(rates=None, without=(), p50=0.5):
    """Results that reach every bar, but for what is given."""
    results = Results()
    for peer, case in sorted(ASKED):
        rate = 1000.0 if peer.startswith(("echo", "predictor", "combined", "transf")) else 100.0
        rate = (rates or {}).get((peer, case), rate)
        if (peer, case) not in without:
            for at in range(3):
                results.loads[peer][case][at] = Load(rate, p50, 1000 / rate, 20)
    for peer in PEERS:
        results.stalled[peer.name] = [(Load(1, 1, 1.0), Load(1, 1, 1.5))]
        results.starts[peer.name], results.memory[peer.name] = [1.0, 1.5, 9.0], [90.0]
    return results


def verdicts(results, asked=ASKED):
    return {bar.what: bar.verdict(results, asked) for bar in bars()}


def test_a_run_that_reaches_all_bars_passes_all():
    assert set(verdicts(measured()).values()) == {"PASS"}
    assert len(verdicts(measured())) == 16


@pytest.mark.parametrize(
    ("peer", "case", "rate", "words"),
    [
        ("predictor", Case("v1", 1, 16), 999.0, "V1, 1 row, 16 connections: rate against stock"),
        ("echo", Case("v2", 1, 16), 1251.0, "V2, 1 row, 16 connections: rate against the echo"),
        ("kserve", Case("v2", 100, 16), 334.0, "V2, 100 rows, 16 connections: rate against stock"),
        ("kserve", Case("grpc", 1, 16), 334.0, "gRPC, 1 row, 16 connections: rate against stock"),
        (
            "kserve-feast-redis",
            Case("features", 1, 16),
            251.0,
            "combined, Redis, 1 row, 16 connections: rate against stock with Feast's SDK",
        ),
    ],
)
def test_a_rate_just_below_its_bar_fails_that_bar_alone(peer, case, rate, words):
    found = verdicts(measured({(peer, case): rate}))
    assert [what for what, verdict in found.items() if verdict != "PASS"] == [words]


def test_slow_answers_a_slow_start_and_much_memory_fail():
    results = measured(p50=0.61)
    results.starts["predictor"], results.memory["predictor"] = [2.1], [121.0]
    results.stalled["predictor"] = [(Load(1, 1, 1.0), Load(1, 1, 2.1))]
    missed = [what for what, verdict in verdicts(results).items() if verdict == "FAIL"]
    assert missed == [
        "combined, SQLite, 1 row, 1 connection: p50",
        "combined, Redis, 1 row, 1 connection: p50",
        "V1, 1 row, 16 connections: p99 beside 200 stalled clients against alone",
        "predictor: start to first right answer",
        "predictor: memory after load",
    ]


def test_what_was_asked_for_and_not_measured_fails_and_what_was_not_asked_for_is_said():
    lost = ("kserve", Case("grpc", 1, 16))
    words = "gRPC, 1 row, 16 connections: rate against stock"
    assert verdicts(measured(without={lost}))[words] == "FAIL"
    assert verdicts(measured(without={lost}), ASKED - {lost})[words] == "not asked for"


def test_a_ratio_is_of_figures_of_the_same_round():
    case, results = Case("v1", 1, 16), Results()
    for at, (ours, stock) in enumerate([(100, 10), (200, 25), (50, 4), (1, 1)]):
        results.loads["predictor"][case][at] = Load(ours, 1, 1)
        if at < 3:
            results.loads["kserve"][case][at] = Load(stock, 1, 1)
    assert results.ratio("predictor", "kserve", case) == 10
    assert results.middle("predictor", case, "rate") == 75
    assert results.ratio("predictor", "ray", case) is None


def test_the_page_shows_every_server_every_case_and_every_failure():
    results = measured(without={("mlserver", Case("grpc", 1, 16))})
    del results.starts["ray"]
    results.fail("ray", "cannot be installed: no wheel | at all")
    results.fail("mlserver grpc/1/16", "500: no")
    text = page(results, ASKED, {"date": "2026-01-01"}, "serving.svg")
    assert all(f"| {peer.title} |" in text for peer in PEERS)
    assert "| Ray Serve | **FAILED**: cannot be installed" in text
    assert re.search(r"\| 16 \| MLServer \| \*\*FAILED\*\* \|", text)
    assert "| mlserver grpc/1/16 | 500: no |" in text
    assert "| 16 | **Slipway** predictor | 1,000 | 0.50 | 1.00 | 20 | 10.00 | 100% |" in text
    tables = re.findall(r"^\|.*\|$(?:\n^\|.*\|$)*", text, re.M)
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table
    assert len(tables) == 4 + 9


def test_the_picture_is_xml_with_a_bar_for_every_server():
    root = ElementTree.fromstring(picture(measured()))  # noqa: S314 (ours)
    bars_drawn = len(root.findall("{*}rect")) - 1
    speakers = sum(protocol in peer.paths for peer in PEERS for protocol in ("v1", "v2", "binary"))
    others = sum(protocol in peer.paths for peer in PEERS for protocol in ("grpc", "features"))
    assert bars_drawn == speakers + others


def test_each_server_is_compared_with_the_stock_one_on_the_same_store():
    assert stock_of("combined-redis") == "kserve-feast-redis"
    assert stock_of("transformer") == stock_of("combined-sqlite") == "kserve-feast-sqlite"
    assert stock_of("ray") == "kserve"


def test_grpc_errors_and_lost_answers_under_load_are_no_rates():
    log = "".join(f"{at * 1000}\t200\t{1000 + at}\n" for at in range(100))
    good = "traffic: 9.9KB (9900) total, 1KB (1000) headers (space savings 0.1%), 4.9KB (5000) data"
    found = read_h2load(good, log, 50, 1)
    assert found.rate == pytest.approx(1000, rel=0.01)
    assert (found.p50_ms, found.p99_ms) == pytest.approx((1.0495, 1.09801))
    for bad, lines in ((good.replace("5000", "4950"), log), (good, log.replace("200", "503"))):
        with pytest.raises(WrongAnswer, match="under load"):
            read_h2load(bad, lines, 50, 1)
    with pytest.raises(WrongAnswer):
        read_h2load(good, "", 50, 1)


def test_a_wrong_answer_is_not_timed():
    import numpy as np

    question = Question(b"", {}, np.array([0.5, 0.25], np.float32))
    check(question, read_http({}, b'{"predictions": [0.500001, 0.25]}'))
    for body in (b'{"predictions": [0.5001, 0.25]}', b'{"predictions": [0.5]}', b"[]", b"{", b"{}"):
        with pytest.raises(WrongAnswer):
            check(question, read_http({}, body))
