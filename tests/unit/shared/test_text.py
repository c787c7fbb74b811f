"""Text of others: nothing of it is a command to a terminal, or a line of a log."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from manyhands_shared.text import LAYOUT, amount, printable

HOSTILE = {
    "escape": "\x1b]52;c;ZXZpbA==\x07",
    "C1": "\x9b31m",
    "bidi": "a\u202egnp.exe",
    "isolate": "a\u2066b",
    "zero width": "a\u200bb",
    "lone surrogate": "a\ud800b",
    "line separator": "a\u2028b",
    "carriage return": "good\rbad",
    "delete": "a\x7fb",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_terminal_obeys_is_replaced(text: str) -> None:
    shown = printable(text, keep=LAYOUT)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert "\N{REPLACEMENT CHARACTER}" in shown


@pytest.mark.parametrize("text", ["", "plain", "Übung macht 数 é", "a b"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


def test_layout_stays_only_where_it_is_wanted() -> None:
    assert printable("a\n\tb", keep=LAYOUT) == "a\n\tb"
    assert printable("a\nb") == "a\N{REPLACEMENT CHARACTER}b"


def test_a_name_cannot_forge_a_line_of_the_log() -> None:
    script = (
        "import logging; from manyhands_shared.logs import log_to_stderr; "
        "log_to_stderr('manyhands broker', 'info', as_command=True); "
        "log = logging.getLogger('x'); name = 'a\\nmanyhands broker: node b has joined\\x1b[2J'; "
        "log.info('node %s has left', name); log.error('no room for %s', name); "
        "log.critical('cannot listen on %s', name)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    ).stderr
    mark = "\N{REPLACEMENT CHARACTER}"
    name = f"a{mark}manyhands broker: node b has joined{mark}[2J"
    lines = [
        re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", line) for line in told.splitlines()
    ]
    assert lines == [
        f"TIME info manyhands broker: node {name} has left",
        f"TIME error manyhands broker: no room for {name}",
        f"error: cannot listen on {name}",
    ]


def test_a_traceback_keeps_its_lines_and_nothing_else() -> None:
    script = (
        "import logging; from manyhands_shared.logs import log_to_stderr; "
        "log_to_stderr('manyhands broker', 'info')\n"
        "try:\n    raise ValueError('\\x1b]0;evil\\x07')\n"
        "except ValueError:\n    logging.getLogger('x').exception('it failed')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    ).stderr
    assert told.splitlines()[0] == "manyhands broker: it failed"
    assert told.splitlines()[-1].startswith("ValueError: ")
    assert "\x1b" not in told
    assert "\x07" not in told


def test_a_line_of_the_log_as_json() -> None:
    script = (
        "import logging; from manyhands_shared.logs import log_to_stderr; "
        "log_to_stderr('manyhands broker', 'info', as_command=True, as_json=True)\n"
        "log = logging.getLogger('x')\n"
        "about = {'job': '', 'node': 'a\\n'}\n"
        "log.info('node %s has left', 'a\\n\\x1b[2J\\ud800', extra=about)\n"
        "try:\n    raise ValueError('\\x1b]0;evil\\x07')\n"
        "except ValueError:\n    log.exception('it failed')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    ).stderr
    first, second = map(json.loads, told.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    mark = "\N{REPLACEMENT CHARACTER}"
    message = f"node a{mark}{mark}[2J{mark} has left"
    about = {"node": f"a{mark}"}
    assert first == {"level": "info", "role": "broker", "message": message, **about}
    assert not {"job", "node"} & set(second)
    assert second["level"] == "error"
    assert "ValueError" in second["traceback"]
    assert "\x1b" not in second["traceback"]


def test_an_amount_has_the_number_of_its_thing() -> None:
    assert amount(1, "task") == "1 task"
    assert amount(0, "task") == "0 tasks"
    assert amount(2_000, "process", "processes") == "2,000 processes"
