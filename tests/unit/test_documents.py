"""What README, docs and runbooks tell people to type exists, and what they link to is there."""

import logging
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from ops.__main__ import COMMANDS as OPS
from serving import logs
from slipway.cli import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "*.md"], capture_output=True, text=True, check=True
    ).stdout.split()
]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))
VARIABLES = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.M))


def commands(text: str) -> Iterator[str]:
    """What stands as code: in backticks, indented or fenced; one command each, without comments."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", text, re.M)
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    for line in lines:
        for part in re.split(r" && |;| \|(?!\|) ", line.partition(" #")[0]):
            yield part.strip()


def wrong(command: str) -> str:
    """Why a command cannot be typed; empty where it can."""
    words = re.sub(r"[][]", "", command).replace("\\|", "|").split()
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words:
        return ""
    name = words[0].removeprefix(".venv/bin/")
    if name == "slipway":
        return _wrong_slipway(words[1:])
    if name == "make":
        return _wrong_make(words[1:])
    if name == "python" and words[1:2] == ["-m"]:
        if words[2] == "ops" and words[3] not in OPS:
            return f"there is no `{words[3]}`"
        return "" if find_spec(words[2]) else f"there is no module {words[2]}"
    return ""


def _wrong_slipway(words: list[str]) -> str:
    here: click.Command = cli
    while isinstance(here, click.Group) and words and not words[0].startswith("-"):
        found = here.get_command(click.Context(here), words[0])
        if found is None:
            return f"there is no `{words[0]}`"
        here, words = found, words[1:]
    options = {
        name: one
        for one in here.get_params(click.Context(here))
        for name in (*one.opts, *one.secondary_opts)
    }
    free = sum(isinstance(one, click.Argument) for one in here.params)
    while words:
        word, words = words[0], words[1:]
        if not word.startswith("-"):
            free -= 1
        elif word not in options:
            return f"there is no option {word}"
        elif not getattr(options[word], "is_flag", False):
            words = words[1:]
    return "there are too many words" if free < 0 else ""


def _wrong_make(words: list[str]) -> str:
    for word in words:
        name, sign, _ = word.partition("=")
        if sign and name not in VARIABLES:
            return f"there is no variable {name}"
        if not sign and re.fullmatch("[a-z-]+", word) and word not in TARGETS:
            return f"there is no target {word}"
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_ours_exists_with_these_options(path):
    text = path.read_text()
    assert not {one: why for one in commands(text) if (why := wrong(one))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            place, _, anchor = target.partition("#")
            found = path.parent / place if place else path
            assert found.exists(), target
            if anchor:
                titles = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
                marks = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles}
                assert anchor in marks, target


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("slipway rollback MODEL", "too many words"),
        ("slipway rollbac", "no `rollbac`"),
        ("slipway runs shwo RUN", "no `shwo`"),
        ("slipway status --jason", "no option --jason"),
        ("make deploy-kid", "no target deploy-kid"),
        ("make deploy CONTXT=x", "no variable CONTXT"),
        ("python -m opps wait", "no module opps"),
        ("python -m ops wiat", "no `wiat`"),
        (".venv/bin/slipway runs show RUN", ""),
        ("slipway rollback --context NAME [--to VERSION]", ""),
        ("MIRROR=x make deploy CONTEXT=y", ""),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command, says):
    assert (says in wrong(command)) if says else not wrong(command)


def test_what_runbooks_look_for_in_a_servers_log_stands_there():
    runbooks = (path.read_text() for path in (ROOT / "monitoring" / "runbooks").glob("*.md"))
    wanted = re.findall(r"grep '(.*level.*)'", "\n".join(runbooks))
    assert wanted
    failed = logging.makeLogRecord({"levelname": "ERROR", "msg": "no"})
    assert set(wanted) <= set(re.findall(r'"level":[^,]+', logs._Json({}).format(failed)))
