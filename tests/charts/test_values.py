"""values.yaml of a chart is its documentation: what is not said there, a user has to guess."""

import re

import pytest

from tests.charts.render import CHARTS

VALUES = sorted(CHARTS.glob("*/values.yaml"))


def undocumented(text):
    """Values without a `# --` comment of their own or of a key around them."""
    around, block = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            block += line.strip() + "\n"
            continue
        if key := re.match(r"( *)([\w./-]+):(.*)", line):
            indent, name, value = len(key[1]), key[2], key[3].strip()
            around = [one for one in around if one[0] < indent]
            said = bool(re.search(r"^# -- ", block, re.M)) or any(one[2] for one in around)
            if value and not said:
                yield ".".join([*(one[1] for one in around), name])
            around.append((indent, name, said))
        block = ""


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.parent.name)
def test_every_value_says_what_it_is(path):
    assert not list(undocumented(path.read_text()))


def test_a_value_that_says_nothing_is_named():
    text = "# About a.\na:\n  b: 1\n  # -- C.\n  c: {d: 2}\n  e: 3\n# -- F.\nf:\n  g: 4\n"
    assert list(undocumented(text)) == ["a.b", "a.e"]
