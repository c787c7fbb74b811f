"""`manyhands run`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from harness.command import document, fails, run, running
from harness.processes import eventually
from manyhands import Client

if TYPE_CHECKING:
    from pathlib import Path

WORK = """
import os
import helper_of_work

class Odd:
    def __repr__(self):
        return "<odd>"

def greet(name, *, times=1):
    return helper_of_work.polite(name) * times

def fail(text):
    raise helper_of_work.OwnError(text)

def odd():
    return Odd()

def where():
    return os.getcwd()

def die():
    os._exit(3)

class Tool:
    @staticmethod
    def use(number):
        return -number
"""
HELPER = """
class OwnError(ValueError):
    pass

def polite(name):
    return f"dear {name} "
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's directory, which the nodes do not know."""
    path = tmp_path_factory.mktemp("user")
    (path / "work.py").write_text(WORK)
    (path / "helper_of_work.py").write_text(HELPER)
    (path / "package/inner").mkdir(parents=True)
    (path / "package/__init__.py").touch()
    (path / "package/inner/deep.py").write_text(
        "from work import greet\ndef f(name):\n    return greet(name)\n"
    )
    (path / "namespace").mkdir()
    (path / "namespace/part.py").write_text("def f():\n    return 'from a namespace'\n")
    (path / "broken.py").write_text("1 / 0\n")
    (path / "needy.py").write_text("import no_such_package\n")
    (path / "leaving.py").write_text("raise SystemExit(5)\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["math:factorial", "20"], "2432902008176640000\n"),
        (["builtins:abs", "-1.5"], "1.5\n"),
        (["builtins:sorted", "[3, 1, 2]"], "[1, 2, 3]\n"),
        (["builtins:str.upper", "text"], "TEXT\n"),
        (["builtins:repr", "'7'"], "'7'\n"),
        (["builtins:len", "--", "--json"], "6\n"),
        (["operator:neg", "--", "5"], "-5\n"),
        (["builtins:int", "ff", "--kwarg", "base=16"], "255\n"),
        (["builtins:dict", "--kwarg", "a=1", "--kwarg", "b=[2]"], "{'a': 1, 'b': [2]}\n"),
        (["builtins:print", "--kwarg", "end=''"], ""),
        # As it is, into a pipe.
        (["builtins:str.lower", "A\x1b[31mB\x1b]52;c;x\x07C"], "a\x1b[31mb\x1b]52;c;x\x07c\n"),
    ],
)
def test_the_result_goes_to_stdout(arguments: list[str], out: str, named: dict[str, str]) -> None:
    result = run("run", *arguments, env=named)
    assert (result.returncode, result.stdout, result.stderr) == (0, out, "")


def test_a_long_number_is_printed_as_it_is(named: dict[str, str], folder: Path) -> None:
    result = run("run", "math:factorial", "2000", cwd=folder, env=named)
    assert result.returncode == 0
    assert len(result.stdout) == 5_737
    assert result.stdout.startswith("3316275092450633241175393380576324038281")


def test_json(named: dict[str, str], folder: Path) -> None:
    good = document(run("run", "--json", "builtins:divmod", "7", "2", env=named))
    assert good["result"] == [3, 1]
    assert good["job"]
    odd = document(run("run", "--json", "work:odd", cwd=folder, env=named))
    assert odd["repr"] == "<odd>"
    assert "result" not in odd
    nan = document(run("run", "--json", "builtins:float", "nan", env=named))
    assert (nan["repr"], "result" in nan) == ("nan", False)
    nan = document(run("run", "--json", "--allow-nan", "builtins:float", "nan", env=named))
    assert str(nan["result"]) == "nan"


def test_arrays_become_json(named: dict[str, str]) -> None:
    shown = document(run("run", "--json", "numpy:arange", "4", env=named))
    assert shown["result"] == [0, 1, 2, 3]


def test_modules_of_the_directory_travel(named: dict[str, str], folder: Path) -> None:
    result = run("run", "work:greet", "you", "--kwarg", "times=2", cwd=folder, env=named)
    assert result.stdout == "dear you dear you \n"
    assert run("run", "work:Tool.use", "3", cwd=folder, env=named).stdout == "-3\n"
    assert run("run", "package.inner.deep:f", "you", cwd=folder, env=named).stdout == "dear you \n"
    spaced = run("run", "namespace.part:f", cwd=folder, env=named)
    assert spaced.stdout == "from a namespace\n"
    # The node works elsewhere and has no such file: it all came along.
    assert run("run", "work:where", cwd=folder, env=named).stdout.strip() != str(folder)


def test_a_task_that_fails_is_exit_code_one(named: dict[str, str], folder: Path) -> None:
    result = run("run", "work:fail", "sour", cwd=folder, env=named)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("error: the task failed: ")
    assert "OwnError: sour" in result.stderr
    # The user's own traceback is shown, and none of ours.
    assert "in fail" in result.stderr
    assert "manyhands/cli" not in result.stderr


def test_a_failure_in_json(named: dict[str, str], folder: Path) -> None:
    result = run("run", "--json", "work:fail", "sour", cwd=folder, env=named)
    assert result.returncode == 1
    shown = document(result)
    assert shown["error"]["type"].endswith("OwnError")
    assert shown["error"]["message"] == "sour"
    assert "in fail" in shown["traceback"]


def test_a_task_that_kills_its_process_is_told(named: dict[str, str], folder: Path) -> None:
    line = fails(run("run", "work:die", cwd=folder, env=named), 1)
    assert "TaskCrashed" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["math"], "write MODULE:FUNCTION"),
        (["math:"], "write MODULE:FUNCTION"),
        (["math:nothing"], "math has no 'nothing'"),
        (["math:pi"], "is float, which cannot be called"),
        (["nothing:at_all"], "no module named 'nothing'"),
        (["work.py:f"], "work.py is a file; name its module, as in work:f"),
        (["./a/work.py:f"], "as in work:f, in a"),
        (["math.nothing:x"], "no module named 'math.nothing'"),
        (["broken:f"], "importing broken failed: ZeroDivisionError: division by zero"),
        (["broken:f"], "broken.py, line 1)"),
        (["needy:f"], "No module named 'no_such_package'"),
        (["leaving:f"], "importing leaving failed: SystemExit: 5"),
        (["math:sqrt", "1", "--kwarg", "5=x"], "is not NAME=VALUE"),
        (["math:sqrt", "--frobnicate"], "put -- before arguments that begin with a dash"),
        (["math:sqrt", "1", "--timeout", "0"], "--timeout"),
        ([], "Missing argument 'MODULE:FUNCTION'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], says: str, folder: Path) -> None:
    result = run("run", *arguments, cwd=folder)
    assert says in fails(result, 2)
    assert result.stderr.count("\n") == 1


def test_no_broker_is_exit_code_three() -> None:
    unreachable = ("--broker", "tcp://127.0.0.1:1", "--connect-timeout", "0.3")
    assert "no broker answers" in fails(run("run", *unreachable, "math:sqrt", "4"), 3)


def test_a_time_limit_is_exit_code_124(named: dict[str, str]) -> None:
    result = run("run", "--timeout", "0.5", "time:sleep", "600", env=named)
    assert "not done after 0.5 s" in fails(result, 124)


@pytest.mark.parametrize("is_embedded", [True, False])
def test_ctrl_c_is_exit_code_130_and_leaves_nothing(
    is_embedded: bool, named: dict[str, str], tmp_path: Path
) -> None:
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    # Opening a pipe for writing waits until this test opens it for reading: so the task runs.
    arguments = ("run", "subprocess:run", f"echo > {fifo} && sleep 600", "--kwarg", "shell=True")
    with running(*arguments, env={} if is_embedded else named) as process:
        with fifo.open() as pipe:
            pipe.read(1)
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert out == ""
    assert "interrupted" in errors
    assert "Traceback" not in errors
    if not is_embedded:
        with Client(named["MANYHANDS_BROKER"]) as client:
            eventually(lambda: not any(node["active"] for node in client.query("nodes")))


def test_without_a_broker_it_works_alone(folder: Path) -> None:
    result = run("run", "work:greet", "me", cwd=folder)
    assert result.stdout == "dear me \n"
    assert "on this machine alone" in result.stderr


def test_name_and_priority_reach_the_broker(named: dict[str, str]) -> None:
    made = document(
        run("run", "--json", "--name", "odd job", "--priority", "3", "math:sqrt", "4", env=named)
    )
    jobs = {job["id"]: job for job in document(run("jobs", "--json", env=named))["jobs"]}
    assert jobs[made["job"]]["name"] == "odd job"
    assert jobs[made["job"]]["priority"] == 3


def test_a_result_that_cannot_be_shown_is_no_success(tmp_path: Path, named: dict[str, str]) -> None:
    (tmp_path / "mute.py").write_text(
        "class Mute:\n    def __repr__(self): raise ValueError('no')\ndef make(): return Mute()\n"
    )
    result = run("run", "mute:make", cwd=tmp_path, env=named)
    assert result.stdout == ""
    assert "its result cannot be shown: repr of Mute raised ValueError" in fails(result, 1)
