"""How the benchmarks run what they measure: each in bounded time, and nothing of it stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from bench import child, environments
from bench.__main__ import measured
from bench.measures import START
from bench.peers import PEERS
from bench.reporting.results import OURS, Run

PYTHON = Path(sys.executable)
BOUND = 30.0


def asked(code: str, count: int = 1, seconds: float = BOUND) -> list[dict[str, object]]:
    return list(child.answers(PYTHON, ["-c", code], seconds, count))


def test_a_system_that_cannot_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "loky/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "pip").touch()
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    wanted = replace(PEERS["loky"], requires=(str(tmp_path / "no-such-package"),))
    monkeypatch.setitem(PEERS, "loky", wanted)
    problem = environments.prepare("loky")
    assert problem.startswith("it could not be installed: ERROR")
    assert "no-such-package" in problem


def test_a_child_that_fails_or_hangs_says_why() -> None:
    assert asked("print('noise'); print('{\"x\": 1}'); print('{\"x\": 2}')", 2) == [
        {"x": 1},
        {"x": 2},
    ]
    with pytest.raises(child.Failure, match=r"^no luck$"):
        asked("raise SystemExit('no luck')")
    with pytest.raises(child.Failure, match=r"^exit code 3$"):
        asked("raise SystemExit(3)")
    with pytest.raises(child.Failure, match=r"no answer within 0\.5 s"):
        asked("import threading; threading.Event().wait(600)", seconds=0.5)


def test_nothing_that_a_child_has_started_outlives_it() -> None:
    sleeper = "import threading; threading.Event().wait(600)"
    code = (
        "import subprocess, sys\n"
        f"process = subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)\n"
        "print('{\"pid\": %d}' % process.pid, flush=True)\n"
    )
    [answer] = asked(code)
    pid = answer["pid"]
    assert isinstance(pid, int)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_measure_that_fails_leaves_the_others_their_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter of an environment is a script here, in place of a system that is measured."""
    python, asked_for = tmp_path / "python", tmp_path / "asked for"
    python.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"open({str(asked_for)!r}, 'a').write(' '.join(sys.argv[4:]) + '\\n')\n"
        f"print(json.dumps({{'measure': {START!r}, 'figures': {{'first': 1.0}}}}))\n"
        "for measure in sys.argv[4:]:\n"
        "    if measure == 'dies':\n"
        "        sys.exit('it died')\n"
        "    if measure == 'fails':\n"
        "        print(json.dumps({'measure': measure, 'failure': 'it failed'}))\n"
        "    else:\n"
        "        print(json.dumps({'measure': measure, 'figures': {measure: 1.0}}))\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(environments, "python", lambda _name: python)
    run = Run([OURS], 2, {})
    for _ in range(2):
        measured(run, OURS, ["before", "fails", "dies", "behind"])
    assert asked_for.read_text().splitlines() == [
        "before fails dies behind",
        "behind",
        "before behind",
    ]
    assert run.failures == {OURS: {"fails": "it failed", "dies": "it died"}}
    assert run.figures[OURS]["before"] == run.figures[OURS]["behind"] == [1.0, 1.0]
    assert not run.missing


def test_a_run_that_is_ended_leaves_what_it_has_measured(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from bench import __main__ as main, environments\n"
        "def steps(run, measures, scale):\n"
        "    run.add('manyhands', {'no-op tasks/s': 7.0})\n"
        "    yield 'one'\n"
        "    __import__('threading').Event().wait(600)\n"
        "main.environments.prepare = lambda name: ''\n"
        "main.steps = steps\n"
        "sys.exit(main.main())\n"
    )
    process = subprocess.Popen(
        [PYTHON, "-c", code, "--systems", OURS, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert any("one" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert "before it was complete" in out
    run = Run.load(tmp_path / "bench.json")
    assert run.figures[OURS] == {"no-op tasks/s": [7.0]}
    assert not run.complete
    assert (tmp_path / "bench.svg").exists()
