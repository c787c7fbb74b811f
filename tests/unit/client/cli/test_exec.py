"""`manyhands exec`: programs, what they are given, what is told of their ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import COMMAND, fails, in_shell, run, running
from harness.processes import eventually, has_ended, without_waits
from harness.threads import Worker, starve
from manyhands import Client, LocalCluster
from manyhands.cli import _app
from manyhands.cli._programs.ending import Ending
from manyhands.cli._programs.halting import Halting


def pids(folder: Path, count: int) -> list[int]:
    """Wait until `count` programs have written their process ids there."""

    def written() -> list[int]:
        return [int(text) for file in folder.iterdir() if (text := file.read_text().strip())]

    eventually(lambda: len(written()) == count, timeout=100, what="the programs run")
    return written()


def all_gone(processes: list[int]) -> None:
    eventually(lambda: all(map(has_ended, processes)), timeout=100, what="no process is left")


def test_a_program_runs_once_and_its_output_comes_back(named: dict[str, str]) -> None:
    result = run("exec", "--", "printf", "%s|", "a b", "{}", env=named)
    assert (result.returncode, result.stdout, result.stderr) == (0, "a b|", "")


def test_inputs_combine_and_come_in_order(named: dict[str, str]) -> None:
    words = [
        "exec",
        "-k",
        "echo",
        "{1}-{2}-{3}",
        ":::",
        "a",
        "b",
        ":::",
        "1",
        "2",
        ":::+",
        "x",
        "y",
    ]
    result = run(*words, env=named)
    assert result.stdout.split() == ["a-1-x", "a-2-y", "b-1-x", "b-2-y"]


def test_without_a_replacement_string_the_input_comes_last(named: dict[str, str]) -> None:
    result = run("exec", "-k", "echo", "-n", "<", ":::", "it's", "b c", env=named)
    assert result.stdout == "< it's< b c"


def test_lines_are_inputs(named: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "list"
    source.write_bytes(b"\xef\xbb\xbfa b\n\nna\xe9\nlast")
    result = run(
        "exec", "-k", "--input", source, "--shell", "printf '%s\\n' {} | od -c | wc -l", env=named
    )
    assert result.stdout.split() == ["2", "2", "2", "2"]
    source.write_text("a b\nc\n")
    assert run("exec", "-k", "echo", "::::", source, env=named).stdout == "a b\nc\n"
    null = run("exec", "-k", "-0", "--input", "-", "echo", stdin="a\nb\0c", env=named)
    assert null.stdout == "a\nb\nc\n"


def test_an_array_has_numbers_of_its_own(named: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = "echo $MANYHANDS_TASK $MANYHANDS_SEQ {}; echo oops >&2"
    where = ["--stdout", f"{out}/%t.txt", "--stderr", f"{out}/%t.err"]
    result = run("exec", "--array", "0-20:10,7", *where, "--shell", line, env=named)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    found = {file.name: file.read_text() for file in out.glob("*.txt")}
    assert found == {
        "0.txt": "0 1 0\n",
        "10.txt": "10 2 10\n",
        "20.txt": "20 3 20\n",
        "7.txt": "7 4 7\n",
    }
    assert (out / "7.err").read_text() == "oops\n"


def test_both_outputs_may_go_to_one_file(named: dict[str, str], tmp_path: Path) -> None:
    there = f"{tmp_path}/%t"
    line = "echo a; echo b >&2; echo c"
    assert not run(
        "exec", "--stdout", there, "--stderr", there, "--shell", line, env=named
    ).returncode
    assert (tmp_path / "1").read_text() == "a\nb\nc\n"


def test_a_pipe_is_cut_into_blocks_of_whole_lines(named: dict[str, str]) -> None:
    text = "".join(f"{number}\n" for number in range(30_000))
    result = run("exec", "-k", "--pipe", "-", "--block", "40k", "cat", stdin=text, env=named)
    assert result.stdout == text
    counts = run("exec", "--pipe", "-", "--lines", "7000", "wc", "-l", stdin=text, env=named)
    assert sorted(map(int, counts.stdout.split())) == [2000, 7000, 7000, 7000, 7000]


def test_blocks_of_lines_are_the_input_as_it_is(named: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    long = b"x" * 200_000
    source.write_bytes(b"\xef\xbb\xbfa\r\n\n" + long + b"\nb\n\xff")
    blocks = f"{tmp_path}/%t"
    result = run("exec", "--pipe", source, "--lines", "2", "--stdout", blocks, "cat", env=named)
    assert result.returncode == 0, result.stderr
    found = [(tmp_path / name).read_bytes() for name in ("1", "2", "3")]
    assert found == [b"\xef\xbb\xbfa\r\n\n", long + b"\nb\n", b"\xff"]


def test_a_program_has_no_descriptors_of_the_child(named: dict[str, str]) -> None:
    result = run("exec", "--shell", "cd /proc/self/fd; echo [0-9]*", env=named)
    # The shell that lists them has one more, of the directory.
    assert set(map(int, result.stdout.split())) <= {0, 1, 2, 3}


def test_a_long_input_that_is_no_argument(named: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("日" * 45_000 + "\n" + "a" * 1000)
    result = run(
        "exec", "-k", "--input", source, "--shell", "echo {#} ${#MANYHANDS_INPUT}", env=named
    )
    assert result.stdout == "1 0\n2 1000\n"


def test_a_working_directory_that_is_gone(named: dict[str, str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = in_shell(f"cd {gone}; rmdir {gone}; exec {shlex.join(COMMAND)} exec true", named)
    assert done.returncode == 2
    assert "the working directory was removed" in done.stderr


def test_a_program_has_its_surroundings(named: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "1.in").write_text("given")
    line = "cat; pwd; echo $A $B"
    options = ["--stdin", "%t.in", "--cwd", str(tmp_path), "--env", "A=1", "--env", "B"]
    result = run("exec", *options, "--shell", line, env={**named, "B": "2"})
    assert result.stdout == f"given{tmp_path}\n1 2\n"
    here = run("exec", "pwd", cwd=tmp_path, env=named)
    assert here.stdout == f"{tmp_path}\n"
    assert run("exec", "cat", stdin="not this", env=named).stdout == ""


def test_a_script_without_its_interpreter_is_one_of_sh(
    named: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("echo ran $1\n")
    script.chmod(0o755)
    assert run("exec", "./script", ":::", "x", cwd=tmp_path, env=named).stdout == "ran x\n"


def test_a_program_that_fails_is_a_failed_task(named: dict[str, str]) -> None:
    line = "echo out; echo why >&2; exit {}"
    result = run("exec", "-k", "--shell", line, ":::", "0", "3", env=named)
    says = "1 of 2 programs failed; task 2: exit code 3: echo out; echo why >&2; exit 3 (why)"
    assert fails(result, 1) == f"error: {says}"
    assert result.stdout == "out\nout\n"
    assert result.stderr.startswith("why\nwhy\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shell", "kill -SEGV $$"], "died of SIGSEGV"),
        (["--", "sh", "-c", "kill 0; echo survived"], "task 1: died of SIGTERM: sh"),
        (["no-such-program"], "no such program in PATH"),
        (["/etc/passwd"], "Permission denied"),
        (
            ["--cwd", "/no/such/place", "true"],
            "cannot work in /no/such/place (--cwd names another)",
        ),
        (["--stdin", "/no/such/file", "true"], "cannot open /no/such/file"),
        (["--stdout", "/proc/no/file", "true"], "cannot open /proc/no/file"),
    ],
)
def test_why_a_program_failed(words: list[str], says: str, named: dict[str, str]) -> None:
    assert says in fails(run("exec", *words, env=named), 1)


def test_a_program_that_is_safe_work(named: dict[str, str]) -> None:
    result = run("exec", "-k", "--safe", "--shell", "echo {}; exit {}", ":::", "0", "4", env=named)
    assert "task 2: exit code 4" in fails(result, 1)
    assert result.stdout == "0\n4\n"


def test_what_a_program_leaves_running_is_killed(named: dict[str, str], tmp_path: Path) -> None:
    line = "sleep 600 & echo $! > a; setsid sh -c 'echo $$ > b; exec sleep 600' & echo done"
    line += "; while [ ! -s b ]; do sleep 0.01; done"
    result = run("exec", "--shell", line, cwd=tmp_path, env=named)
    assert result.stdout == "done\n"
    all_gone(pids(tmp_path, 2))


def test_a_program_that_takes_too_long_is_killed_with_its_group(
    named: dict[str, str], tmp_path: Path
) -> None:
    line = "sleep 600 & echo $! > a; echo $$ > b; timeout 600 sh -c 'echo $$ > c; sleep 600; :'"
    result = run("exec", "--task-timeout", "2", "--shell", line, cwd=tmp_path, env=named)
    assert "ran longer than its timeout of 2 s" in fails(result, 1)
    all_gone(pids(tmp_path, 3))


def test_an_interrupt_leaves_no_process(named: dict[str, str], tmp_path: Path) -> None:
    line = "echo $$ > {}; timeout 600 sh -c 'echo $$ > {}-inner; sleep 600; :'"
    with running("exec", "--shell", line, ":::", "a", "b", cwd=tmp_path, env=named) as process:
        left = pids(tmp_path, 4)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    all_gone(left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_command_leaves_no_process(
    named: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    line = "echo $$ > {}; sleep 600"
    inputs = map(str, range(100))
    with running("exec", "--shell", line, ":::", *inputs, cwd=tmp_path, env=named) as process:
        left = pids(tmp_path, 2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number, errors
    assert f"ended by {number.name}" in errors
    all_gone(left)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def fresh() -> Iterator[dict[str, str]]:
    """A cluster that has not seen how quick programs are: it gives out one at a time."""
    with LocalCluster(nodes=1, slots=2) as cluster:
        yield {"MANYHANDS_BROKER": cluster.address}


@pytest.mark.parametrize("limit", ["1", "25%"])
def test_halt_now_kills_what_runs(limit: str, fresh: dict[str, str], tmp_path: Path) -> None:
    line = (
        "echo $$ > {#}; test {} = wait && sleep 600; while [ ! -s 1 ]; do sleep 0.01; done; exit 1"
    )
    words = ["exec", "-j", "2", "--halt", f"now,fail={limit}", "--shell", line]
    result = run(*words, ":::", "wait", "fail", "wait", "wait", cwd=tmp_path, env=fresh)
    assert "1 of 1 program failed; task 2" in fails(result, 1)
    all_gone([int(file.read_text()) for file in tmp_path.iterdir()])


@pytest.mark.parametrize(
    ("share", "tasks", "ends"), [(10, 25, 3), (100, 7, 7), (1, 1, 1), (50, 4, 2), (1, 0, 1)]
)
def test_a_share_of_the_tasks_is_rounded_up(share: int, tasks: int, ends: int) -> None:
    halting = Halting.parse(f"soon,done={share}%")
    halting.count_of(tasks)
    counted = [halting.counts(Ending()) for _ in range(ends + 1)]
    assert counted == [False] * (ends - 1) + [True, False]


def test_what_is_piped_in_are_inputs(named: dict[str, str]) -> None:
    words = ["exec", "-k", "echo", "x"]
    assert run(*words, stdin="1\n2\n", env=named).stdout == "x 1\nx 2\n"
    # Not where another source is named, nor where nothing is piped in.
    assert run(*words, ":::", "3", stdin="1\n2\n", env=named).stdout == "x 3\n"
    assert run(*words, env=named).stdout == "x\n"
    nothing = subprocess.run(
        [*COMMAND, *words],
        input="",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **named},
    )
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "no inputs, nothing to do\n"


def test_halt_soon_lets_what_runs_end(fresh: dict[str, str], tmp_path: Path) -> None:
    # The first waits until the second has failed, and ends well behind that.
    line = "if [ {} = 1 ]; then while [ ! -e failed ]; do sleep 0.01; done; sleep 0.3; echo ended; "
    line += "elif [ {} = 2 ]; then touch failed; exit 1; else sleep 0.3; echo {}; fi"
    words = [*map(str, range(1, 40))]
    result = run(
        *["exec", "-j", "2", "--halt", "soon,fail=1", "--shell", line],
        *[":::", *words],
        cwd=tmp_path,
        env=fresh,
    )
    assert "task 2: exit code 1" in fails(result, 1)
    assert "ended" in result.stdout
    assert len(result.stdout.split()) < 20


def test_halt_soon_needs_no_thread(
    cluster: LocalCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The first fails. What runs then ends once nothing else is left on the node, and no other starts.
    line = "touch began/{}; if [ {} = 1 ]; then exit 1; fi; "
    line += "while [ ! -e halted ]; do sleep 0.01; done; echo {}"
    words = [*map(str, range(1, 40))]
    starved = starve(monkeypatch, "manyhands-halt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "began").mkdir()
    command = ("exec", "--broker", cluster.address, "-j", "2", "--halt", "soon,fail=1")
    # As programs are known to be quick, the node gets more of them than it has slots.
    assert not _app.run([*command, "true", ":::", *words])

    def release() -> None:
        with Client(cluster.address) as client:
            eventually(
                lambda: any(
                    job["state"] == "paused" and job["active"] <= 2 for job in client.query("jobs")
                ),
                timeout=60,
            )
            (tmp_path / "halted").touch()

    watching = Worker(release)
    code = _app.run([*command, "--shell", line, ":::", *words])
    watching.result()
    said = capsys.readouterr()
    assert starved == ["manyhands-halt"]
    assert code == 1, said.err
    assert "task 1: exit code 1" in said.err
    began = {path.name for path in (tmp_path / "began").iterdir()}
    assert {"1", *said.out.split()} == began
    assert len(began) <= 3


def test_tasks_start_as_their_lines_come(named: dict[str, str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with running("exec", "--input", fifo, "touch", cwd=tmp_path, env=named) as process:
        with fifo.open("w") as lines:
            lines.write("a\n")
            lines.flush()
            eventually((tmp_path / "a").exists, timeout=100)
            lines.write("b\n")
        _, errors = process.communicate(timeout=100)
    assert (process.returncode, without_waits(errors)) == (0, "")
    assert (tmp_path / "b").exists()


def test_a_dry_run_prints_what_would_run(tmp_path: Path) -> None:
    result = run("exec", "--dry-run", "gzip", "-k", "{}", ":::", "a b", "c")
    assert (result.returncode, result.stdout) == (0, "gzip -k 'a b'\ngzip -k c\n")
    line = run("exec", "--dry-run", "--shell", "sort {} > {.}.out", ":::", "a b.txt")
    assert line.stdout == "sort 'a b.txt' > 'a b'.out\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([":::", "a"], "there is no command"),
        (["echo", ":::+", "a"], "links to a source before it"),
        (["echo", "::::", "no-such-file"], "cannot read no-such-file"),
        (["--input", "no-such-file", "echo"], "cannot read no-such-file"),
        (["--array", "9-1", "echo"], "--array '9-1' is not of the form"),
        (["--array", "1-9:0", "echo"], "is not of the form"),
        (["--array", "1-9999999999", "echo"], "more than"),
        (["--array", "1-2", "echo", ":::", "a"], "--array and ::: each say what the tasks are"),
        (["--array", "1-2", "--pipe", "-", "cat"], "--array and --pipe each say"),
        (["--null", "echo"], "--null is for --input"),
        (["--lines", "2", "echo"], "--lines is for --pipe"),
        (["--block", "0", "--pipe", "-", "cat"], "no size"),
        (["echo", "{2}", ":::", "a"], "{2} is in the command, and there are 1 sources"),
        (["--stdout", "out", "echo", ":::", "a", "b"], "--stdout out is one file for all tasks"),
        (["--env", "NO_SUCH_VARIABLE", "true"], "--env 'NO_SUCH_VARIABLE'"),
        (["--halt", "later", "true"], "--halt 'later' is not of the form"),
        (["--halt", "now,fail=0", "true"], "is not of the form"),
        (["--resume", "true"], "--resume needs --joblog FILE"),
        (["--joblog", "no/such/dir/log", "true"], "cannot write to no/such/dir/log"),
        (["--detach", "--keep-order", "true"], "--keep-order is for a run that is waited for"),
        (["--detach", "--joblog", "log", "true"], "--joblog is for a run that is waited for"),
        (["--detach", "--timeout", "1", "true"], "--timeout is for a run that is waited for"),
        (["-j", "0", "true"], "0 is not in the range"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], says: str, named: dict[str, str], tmp_path: Path
) -> None:
    result = run("exec", *words, cwd=tmp_path, env=named)
    assert says in fails(result, 2)
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_device_is_one_line(named: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*COMMAND, "exec", "echo", "x"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, **named},
        )
    assert process.returncode == 1
    assert process.stderr == "error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("closing", "code", "out", "err"),
    [
        (">&-", 1, "", "error: cannot write the output: Broken pipe\n"),
        ("2>&-", 0, "x\n", ""),
        ("<&-", 0, "x\n", ""),
        ("<&- 2>&-", 0, "x\n", ""),
        ("<&- >&- 2>&-", 1, "", ""),
    ],
)
def test_streams_may_be_closed(
    closing: str, code: int, out: str, err: str, named: dict[str, str]
) -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *COMMAND, "exec", "echo", "x"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **named},
    )
    assert (process.returncode, process.stdout, process.stderr) == (code, out, err)


def test_an_input_that_is_closed_is_empty(named: dict[str, str]) -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "map", "math:sqrt", "--input", "-"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **named},
    )
    assert (process.returncode, process.stdout) == (0, "")
    assert process.stderr == "no items, nothing to do\n"


def test_no_broker_is_exit_code_three() -> None:
    result = run("exec", "--broker", "tcp://127.0.0.1:1", "--connect-timeout", "0.3", "true")
    assert "no broker answers at tcp://127.0.0.1:1" in fails(result, 3)
