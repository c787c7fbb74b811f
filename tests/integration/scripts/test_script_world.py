"""What a script hands on to its tasks without a word: directory, environment, options, descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.processes import without_waits

BOUND = 110.0


def run(
    script: str,
    *,
    options: tuple[str, ...] = (),
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    shell: str = "",
    warned: bool = False,
) -> str:
    """What a script prints. It must end well and, if it is not `warned`, say nothing else."""
    command = [sys.executable, *options, "-c", script]
    if shell:
        command = ["bash", "-c", f'exec "$@" {shell}', "bash", *command]
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert warned or not without_waits(ended.stderr)
    return ended.stdout


OWN = """
import manyhands
with manyhands.Pool(1) as pool:
    print(pool.apply(abs, (-1,)))
"""
LOCAL = """
with manyhands.LocalCluster(nodes=1) as local, manyhands.Pool(address=local.address) as pool:
    print(pool.apply(abs, (-2,)))
"""


@pytest.mark.parametrize(
    "shell", ["<&-", "2>&-", "<&- 2>&-"], ids=["no stdin", "no stderr", "neither"]
)
def test_standard_descriptors_may_be_closed(shell: str) -> None:
    assert run(OWN + LOCAL, shell=shell) == "1\n2\n"


def test_the_working_directory_may_be_gone(tmp_path: Path) -> None:
    gone = "import os, tempfile\ngone = tempfile.mkdtemp()\nos.chdir(gone)\nos.rmdir(gone)\n"
    assert run(gone + OWN + LOCAL, cwd=tmp_path) == "1\n2\n"


def test_the_name_of_the_temporary_directory_may_be_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    # What a task makes there is where the script would have it.
    where = (
        "import tempfile\nwith manyhands.Pool(1) as pool: print(pool.apply(tempfile.gettempdir))\n"
    )
    said = run(OWN + LOCAL + where, environment={"TMPDIR": str(deep)})
    assert said == f"1\n2\n{deep}\n"
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(
    "state",
    [
        "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    ],
    ids=["blocked", "ignored"],
)
def test_the_death_of_a_child_is_noticed_whatever_the_script_does_with_signals(state: str) -> None:
    script = f"""
import os, signal
{state}
import manyhands
with manyhands.Pool(1) as pool:
    try:
        pool.apply_async(os._exit, (3,)).get(30)
    except manyhands.TaskCrashed:
        print("told")
"""
    assert run(script, warned=True) == "told\n"


def test_the_environment_of_a_task_is_that_of_the_script() -> None:
    script = """
import os
import manyhands
os.environ["PYTHONPATH"] = "/nowhere"
del os.environ["HOME"]
def look():
    return dict(os.environ)
here = look()
with manyhands.Pool(1) as pool:
    there = pool.apply(look)
with manyhands.LocalCluster(nodes=1) as cluster, manyhands.Pool(address=cluster.address) as pool:
    again = pool.apply(look)
threads = {name for name in there if name.endswith("_THREADS")}
for found in (there, again):
    print({name for name in {*here, *found} - threads if here.get(name) != found.get(name)})
"""
    assert run(script, environment={"OF_THE_SCRIPT": "yes"}) == "set()\nset()\n"


def test_a_task_sees_the_arguments_of_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(OWN.replace("abs, (-1,)", "look") + LOCAL.replace("abs, (-2,)", "look"))
    script.write_text("import sys\ndef look(): return sys.argv\n" + script.read_text())
    ended = subprocess.run(
        [sys.executable, script, "--size", "3", "\N{GREEK SMALL LETTER ALPHA}'\"\\"],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=True,
    )
    wanted = [str(script), "--size", "3", "\N{GREEK SMALL LETTER ALPHA}'\"\\"]
    assert ended.stdout == f"{wanted}\n" * 2


def test_other_interpreters_that_a_task_starts_find_their_own_modules() -> None:
    script = """
import subprocess, sys
import manyhands
sys.path.insert(0, "/of/the/script")
def look():
    code = "import sys; print(sys.path)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
with manyhands.Pool(1) as pool:
    print(pool.apply(look) == look(), "/of/the/script" in look())
"""
    assert run(script) == "True False\n"


@pytest.mark.parametrize("name", ["a:b", "with blank", "quote'\"$x", "ümlaut"])
def test_modules_are_found_in_any_directory(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    script = f"""
import sys, os
from pathlib import Path
sys.path[:0] = [{str(folder)!r}, Path("/not/text"), 7]
import manyhands, beside
with manyhands.Pool(1) as pool:
    print(pool.map(beside.double, [1, 2]))
"""
    assert run(script) == "[2, 4]\n"


@pytest.mark.parametrize(
    "options",
    [
        ("-O",),
        ("-OO",),
        ("-X", "utf8=1"),
        ("-W", "ignore"),
        ("-W", "error"),
        ("-X", "int_max_str_digits=0"),
        ("-X", "dev"),
        ("-B", "-s"),
    ],
    ids=" ".join,
)
def test_options_of_the_interpreter_reach_the_tasks(options: tuple[str, ...]) -> None:
    script = """
import sys
import manyhands
def look():
    flags = sys.flags
    return (flags.optimize, flags.utf8_mode, sys.warnoptions, flags.int_max_str_digits,
            flags.dev_mode, flags.dont_write_bytecode, flags.no_user_site, __debug__)
with manyhands.Pool(1) as pool:
    print(pool.apply(look) == look(), pool.apply(look))
with manyhands.LocalCluster(nodes=1) as cluster, manyhands.Pool(address=cluster.address) as pool:
    print(pool.apply(look) == look(), pool.apply(look))
"""
    lines = run(script, options=options).splitlines()
    assert [line.split()[0] for line in lines] == ["True", "True"], lines


def test_programs_that_tasks_start_can_be_interrupted() -> None:
    script = r"""
import signal, subprocess, sys
import manyhands
code = "import time\ntry:\n  print(1, flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print(2)"
def stop():
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    return child.communicate(timeout=120)[0].strip()
with manyhands.Pool(1) as pool:
    print(pool.apply(stop))
"""
    assert run(script) == "2\n"
