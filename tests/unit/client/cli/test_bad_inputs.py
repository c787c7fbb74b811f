"""What cannot be used: each is one sentence and the exit code of the table, and nothing is lost.

The command runs in this process, from its entry on, so that very many cases take a moment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.command import fails, run
from manyhands import Client
from manyhands._io import io_thread
from manyhands.cli import _app

if TYPE_CHECKING:
    from manyhands import LocalCluster

#: A directory of a user, as it is before and after each case.
FILES: dict[str, str | bytes] = {
    "items": "4\n9\n",
    "no-json": "4\nfour\n",
    "no-text": b"4\n\xff\n",
    "scalar": "4\n",
    "deep": "[" * 100_000 + "\n",
    "old.jsonl": '{"index": 0, "result": 2.0}\n',
    "odd.jsonl": "not ours\n",
    "notes": "of one line, which has no end",
    "document": '{"precious": 1}',
    "torn.run": "no\n",
    "torn": '{"index": 0, "result": 2.0}\n',
    "old.log": "1\t2\n",
    "wrong_syntax.py": "def (",
    "empty.key": "",
    "garbage.key": "secret = 5\n",
    "open.key": "x\n",
    "broken.toml": "lease = ",
    "other.toml": "[brocker]\nlease = 1\n",
    "typo.toml": "[nodes]\nbrooker = 'x'\n",
    "type.toml": "[nodes]\nconnect-timeout = 'soon'\n",
    "zero.toml": "[nodes]\nkey-file = 'a'\nbroker = \"tcp://a\\u0000b\"\n",
    "bytes.toml": b"\xff\xfe",
    "utf16": "4\n9\n".encode("utf-16"),
    "two": "4 9\n",
    "zero": "4\0\n",
    "zeros.key": "\0" * 100,
    "far.log": "Seq\tHost\n99999999999\t:\t1\t1\t0\t0\t0\t0\techo\n",
    "fails.py": "raise RuntimeError('one\\ntwo')\n",
    "leaves.py": "import sys\nsys.exit(7)\n",
    "circle.py": "from circle import f\n",
    "coded.py": "# coding: nothing\n",
    "folder/file": "",
    "y" * 252: "no name is left for what stands beside it",
}
#: A link that leads to itself.
LOOP = "loop"
LONG = "x" * 300
MAP = ["map", "math:sqrt", "--input"]
ADDRESS = ["nodes", "--connect-timeout", "0.1", "--broker"]
ALLOW = ["keys", "allow", "0" * 64, "--role", "client", "--name", "a", "--allow-file"]
KEY = ["nodes", "--broker", "tcp://127.0.0.1:1", "--key-file"]

#: Words of the command, exit code, a part of the sentence.
CASES: list[tuple[list[str], int, str]] = [
    # Addresses.
    ([*ADDRESS, "udp://x"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, "http://x:80"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, "tcp://"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, "tcp://host:port"], 2, "no valid port"),
    ([*ADDRESS, "tcp://host:99999"], 2, "no valid port"),
    ([*ADDRESS, "tcp://a b:1"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, "tcp://host:1/path"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, ","], 2, "is not an address"),
    ([*ADDRESS, "tcp://127.0.0.1:1,udp://x"], 2, "'udp://x' is not an address"),
    ([*ADDRESS, f"unix:///{'long/' * 30}"], 2, "longer than 100 bytes"),
    ([*ADDRESS, "tcp://127.0.0.1:1"], 3, "nothing listens there"),
    ([*ADDRESS, "unix:///nowhere/socket"], 3, "there is no such socket"),
    ([*ADDRESS, "tcp://[::1"], 2, "no valid port"),
    ([*ADDRESS, "tcp://h\nost:1"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, "tcp://user:word@127.0.0.1:1"], 2, "write tcp://HOST:PORT"),
    ([*ADDRESS, f"tcp://{LONG}:1"], 2, "no valid name of a host"),
    ([*ADDRESS, "tcp://\u00fc..example:1"], 2, "no valid name of a host"),
    ([*ADDRESS, "tcp://127.0.0.1:0"], 3, "nothing listens there"),
    (["nodes", "--connect-timeout", "nan"], 2, "'nan' is no duration"),
    (["nodes", "--connect-timeout", "-1"], 2, "'-1' is no duration"),
    (["up", "--ssh", ","], 2, "--ssh names no host"),
    (["up", "--port", "70000"], 2, "70000"),
    # Keys.
    ([*KEY, "none.key"], 2, "manyhands keys new none.key"),
    ([*KEY, "folder"], 2, "folder"),
    ([*KEY, "empty.key"], 2, "empty.key"),
    ([*KEY, "garbage.key"], 2, "garbage.key"),
    ([*KEY, "open.key"], 2, "open.key"),
    ([*KEY, "zeros.key"], 2, "zeros.key"),
    ([*KEY, "bytes.toml"], 2, "cannot read the key file bytes.toml: it is no text"),
    ([*KEY, LOOP], 2, "cannot read the key file loop"),
    ([*KEY, "/proc/self/mem"], 2, "cannot read the key file /proc/self/mem"),
    (["keys", "new", "folder"], 2, "'folder' is a directory"),
    (["keys", "new", "items/x"], 2, "cannot write the key file items/x: items is no folder; name"),
    (["keys", "new", LONG], 2, "xxx: File name too long; name another file"),
    ([*ALLOW, "items/x"], 2, "cannot write the allow-list items/x"),
    (["keys", "new", ""], 2, "a file without a name"),
    (["keys", "allow", LONG], 2, "cannot use xxx"),
    (["keys", "show", "none.key"], 2, "none.key"),
    (["keys", "new", "garbage.key"], 2, "garbage.key"),
    (["keys", "new", "my.key", "--role", "client"], 2, "--broker-key"),
    (["keys", "new", "my.key", "--name", "me"], 2, "needs a --role"),
    (["keys", "allow", "zzz", "--role", "client", "--name", "a"], 2, "zzz"),
    (["keys", "list"], 2, "--allow-file"),
    (["keys", "revoke", "alice", "--allow-file", "none"], 2, "alice"),
    # Files and JSON.
    ([*MAP, "none"], 2, "cannot read none: No such file"),
    ([*MAP, "folder"], 2, "cannot read folder: Is a directory"),
    ([*MAP, "no-json"], 2, "line 2 of no-json"),
    ([*MAP, "no-text"], 2, "line 2 of no-text is not UTF-8"),
    ([*MAP, "deep"], 2, "line 1 of deep"),
    ([*MAP, "scalar", "--star"], 2, "--star spreads those"),
    ([*MAP, "scalar", "--star", "--lines"], 2, "give one of them"),
    ([*MAP, "items", "--output", "items", "--overwrite"], 2, "items is the input"),
    ([*MAP, "items", "--output", "folder"], 2, "cannot write to folder"),
    ([*MAP, "items", "--output", "none/results"], 2, "cannot write to none/results"),
    ([*MAP, "items", "--output", "old.jsonl"], 2, "is not empty; go on with it by --resume"),
    ([*MAP, "items", "--output", "odd.jsonl", "--resume"], 2, "line 1 of odd.jsonl is not a line"),
    ([*MAP, "items", "--output", "notes", "--resume"], 2, "line 1 of notes is not a line"),
    ([*MAP, "items", "--output", "document", "--resume"], 2, "line 1 of document is not a line"),
    ([*MAP, "items", "--output", "torn", "--resume"], 2, "torn.run is not what it was"),
    ([*MAP, "utf16"], 2, "line 1 of utf16 is not UTF-8"),
    ([*MAP, "zero"], 2, "line 1 of zero"),
    ([*MAP, "two"], 2, "write one JSON value a line"),
    ([*MAP, LOOP], 2, "cannot read loop: Too many levels"),
    ([*MAP, LONG], 2, "File name too long"),
    ([*MAP, ""], 2, "cannot read a file without a name"),
    ([*MAP, "/proc/self/mem"], 2, "cannot read /proc/self/mem"),
    ([*MAP, "items", "--output", LOOP], 2, "cannot write to loop"),
    ([*MAP, "items", "--output", LONG], 2, "cannot write to xxx"),
    ([*MAP, "items", "--output", ""], 2, "cannot write to a file without a name"),
    ([*MAP, "items", "--output", "."], 2, "cannot write to ."),
    ([*MAP, "items", "--output", "y" * 252, "--overwrite"], 2, "cannot write to yyy"),
    ([*MAP, "items", "--slots", "99999"], 2, "99999"),
    ([*MAP, "items", "--resume"], 2, "--resume needs --output"),
    ([*MAP, "items", "--json"], 2, "--output"),
    (["run", "--file", LONG, "math:sqrt", "4"], 2, "xxx cannot be read: File name too long"),
    (["run", "--file", "none", "math:sqrt", "4"], 2, "--file none cannot be read: No such file"),
    (["export", "zzz", "--chrome-trace", "none/x"], 2, "cannot write to none/x"),
    (["export", "zzz", "--chrome-trace", "items/x"], 2, "cannot write to items/x"),
    (["export", "zzz", "--chrome-trace", LONG], 2, "cannot write to xxx"),
    (["loadtest", "--report", "items/x"], 2, "cannot write to items/x: Not a directory"),
    (["backup", ""], 2, "a file without a name"),
    # What may have no end.
    ([*MAP, "/dev/zero"], 2, "cannot read /dev/zero: it is a device"),
    ([*MAP, "items", "--output", "/dev/full", "--resume"], 2, "/dev/full is no file"),
    (["exec", "--joblog", "/dev/full", "--resume", "true"], 2, "/dev/full is no file"),
    (["exec", "--input", "/dev/urandom", "true"], 2, "it is a device"),
    (["exec", "--pipe", "/dev/zero", "cat"], 2, "it is a device"),
    (["exec", "true", "::::", "/dev/zero"], 2, "it is a device"),
    (["submit", "math:sqrt", "--input", "/dev/zero"], 2, "it is a device"),
    (["run", "--file", "/dev/zero", "math:sqrt", "4"], 2, "--file /dev/zero is a pipe or a device"),
    (["run", "--with-requirements", "/dev/zero", "math:sqrt", "4"], 2, "it has more than 4 MiB"),
    (["--config", "/dev/zero", "nodes"], 2, "/dev/zero: it has more than 4 MiB"),
    (["loadtest", "--compare", "/dev/zero"], 2, "it has more than 4 MiB"),
    (["keys", "list", "--allow-file", "/dev/zero"], 2, "/dev/zero"),
    (["keys", "show", "/dev/zero"], 2, "/dev/zero"),
    # Names and values.
    (["run", "math"], 2, "write MODULE:FUNCTION"),
    (["run", "math:nothing"], 2, "math has no 'nothing'"),
    (["run", ""], 2, "write MODULE:FUNCTION"),
    (["run", ":sqrt"], 2, "write MODULE:FUNCTION"),
    (["run", "math:"], 2, "write MODULE:FUNCTION"),
    (["run", "fails:f"], 2, "importing fails failed: RuntimeError: one two"),
    (["run", "leaves:f"], 2, "importing leaves failed: SystemExit: 7"),
    (["run", "circle:f"], 2, "importing circle failed: ImportError"),
    (["run", "coded:f"], 2, "importing coded failed: SyntaxError"),
    (["run", "math:sqrt", "4", "--retries", "-1"], 2, "-1 is not in the range"),
    (["run", "math:pi"], 2, "cannot be called"),
    (["run", "no_such_module:f"], 2, "no module named 'no_such_module'"),
    (["run", "wrong_syntax:f"], 2, "importing wrong_syntax failed: SyntaxError"),
    (["run", "math:sqrt", "4", "--kwarg", "5=x"], 2, "is not NAME=VALUE"),
    (["run", "math:sqrt", "4", "--resource", "cpus"], 2, "is not NAME=AMOUNT"),
    (["run", "math:sqrt", "4", "--task-timeout", "soon"], 2, "'soon' is no duration"),
    (["run", "math:sqrt", "4", "--priority", "1e9"], 2, "--priority"),
    (["submit", "math:sqrt", "4", "--input", "items"], 2, "not both"),
    (["submit", "math:sqrt", "4", "--arg", "1"], 2, "are for --input"),
    (["submit", "math:sqrt", "--input", "no-json"], 2, "line 2 of no-json"),
    (["frobnicate"], 2, "No such command"),
    (["jobs", "--frobnicate"], 2, "--frobnicate"),
    (["jobs", "--state", "ended"], 2, "--state"),
    (["completion", "csh"], 2, "csh"),
    (["submit", "--after", "", "math:sqrt", "4"], 2, "'--after': it is empty"),
    (["drain", ""], 2, "it is empty; see: manyhands jobs, manyhands nodes"),
    *(
        ([*words, ""], 2, "it is empty; see: manyhands jobs, manyhands nodes")
        for words in (
            *(
                ["show"],
                ["wait"],
                ["watch"],
                ["results"],
                ["logs"],
                ["stack"],
                ["profile"],
                ["why"],
            ),
            *(["pause"], ["resume"], ["retry", "--failed"], ["forget"], ["cancel", "zzz"]),
            ["export", "--chrome-trace", "t"],
        )
    ),
    # Programs.
    (["exec", ":::", "a"], 2, "no command before the inputs"),
    (["exec", ""], 2, "the command is empty"),
    (["exec", "", ":::", "a"], 2, "the command is empty"),
    (["exec", "--shell", " "], 2, "the command is empty"),
    (["exec", "--dry-run", "--input", "zero", "echo"], 2, "line 1 of zero has a zero byte"),
    (["exec", "--dry-run", "echo", "::::", "zero"], 2, "line 1 of zero has a zero byte"),
    (["exec", "--array", "5-1", "true"], 2, "--array '5-1'"),
    (["exec", "--array", "1-9:0", "true"], 2, "--array '1-9:0'"),
    (["exec", "--array", "1-9999999999", "true"], 2, "submit it in parts"),
    (["exec", "--array", f"1-{10**30}:3", "true"], 2, "submit it in parts"),
    (["exec", "--array", "1", "--input", "items", "true"], 2, "give one of them"),
    (["exec", "echo", "{3}", ":::", "a"], 2, "{3} is in the command"),
    (["exec", "echo", "{99999999999999999999}", ":::", "a"], 2, "is in the command"),
    (["exec", "--array", "", "true"], 2, "--array ''"),
    (["exec", "--array", "1-", "true"], 2, "--array '1-'"),
    (["exec", "--array", "1-3,2", "--stdout", "%t", "true"], 2, "--array '1-3,2' has 2 more than"),
    (["exec", "--env", "=1", "true"], 2, "--env '=1'"),
    (["exec", "--block", "-1", "--pipe", "items", "cat"], 2, "'-1' is no size"),
    (["exec", "--joblog", "folder", "true"], 2, "'folder' is a directory"),
    (["exec", "--joblog", LONG, "true"], 2, "cannot write to xxx"),
    (["exec", "--joblog", "", "true"], 2, "'--joblog': a file without a name"),
    (["exec", "--joblog", LOOP, "true"], 2, "cannot write to loop"),
    (["exec", "--joblog", "far.log", "--resume", "true"], 2, "is not of a job log"),
    (["exec", "--joblog", "notes", "--resume", "true"], 2, "line 1 of notes is not of a job log"),
    (["exec", "--input", "two", "--joblog", "two", "--overwrite", "true"], 2, "two is the input"),
    (["exec", "--pipe", "two", "--joblog", "two", "--overwrite", "cat"], 2, "two is the input"),
    (["exec", "-j", "-1", "true"], 2, "-1 is not in the range"),
    (["exec", "--timeout", "0", "true"], 2, "more than 0"),
    (["exec", "echo", "::::", "none"], 2, "cannot read none"),
    (["exec", "echo", "::::"], 2, ":::: names no file"),
    (["exec", "echo", "::::", ":::", "a"], 2, ":::: names no file"),
    (["exec", "echo", ":::", "a", "::::+"], 2, "::::+ names no file"),
    (["exec", "echo", ":::+", "a"], 2, "links to a source before it"),
    (["exec", "--halt", "maybe", "true"], 2, "--halt 'maybe'"),
    (["exec", "--halt", "now,fail=200%", "true"], 2, "--halt 'now,fail=200%'"),
    (["exec", "--halt", "now,fail=5%", "--pipe", "items", "cat"], 2, "--pipe"),
    (["exec", "--resume", "true"], 2, "--resume needs --joblog"),
    (["exec", "--joblog", "old.log", "true"], 2, "old.log is not empty"),
    (
        ["exec", "--joblog", "old.log", "--resume", "true"],
        2,
        "line 1 of old.log is not of a job log",
    ),
    (["exec", "--stdout", "one", "echo", ":::", "a", "b"], 2, "put %t in its name"),
    (["exec", "--env", "NO_SUCH_NAME", "true"], 2, "--env 'NO_SUCH_NAME'"),
    (["exec", "--null", "true"], 2, "--null is for --input"),
    (["exec", "--lines", "5", "true"], 2, "--lines is for --pipe"),
    (["exec", "--detach", "-k", "true"], 2, "--keep-order"),
    # Configuration files.
    (["--config", "none.toml", "nodes"], 2, "is not there"),
    (["--config", "broken.toml", "nodes"], 2, "cannot read the configuration file"),
    (["--config", "zero.toml", "nodes"], 2, "a text in it has a zero byte"),
    (["--config", "bytes.toml", "nodes"], 2, "cannot read the configuration file bytes.toml"),
    (["--config", "folder", "nodes"], 2, "cannot read the configuration file folder"),
    (["--config", LOOP, "nodes"], 2, "cannot read the configuration file loop"),
    (["--config", "other.toml", "nodes"], 2, "[brocker], which is no command"),
    (["--config", "typo.toml", "nodes"], 2, "unknown option 'brooker'"),
    (["--config", "type.toml", "nodes"], 2, "'soon' is no duration"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(0o600)
    (folder / "open.key").chmod(0o644)
    (folder / LOOP).symlink_to(LOOP)
    return folder


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That directory as the working directory of this process, which is as before afterwards."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # A busy machine may take longer to connect: that it says so is no fault of the input.
    monkeypatch.setattr(io_thread, "QUIET_SECONDS", 60.0)
    digits = sys.get_int_max_str_digits()
    yield folder
    sys.set_int_max_str_digits(digits)


def held(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command here; its exit code and its one line."""
    capsys.readouterr()
    code = _app.run(arguments)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert len(said.err) < 600
    assert "Traceback" not in said.err
    assert "failed inside" not in said.err
    return code, said.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"), CASES, ids=[" ".join(words)[:60] for words, _, _ in CASES]
)
def test_one_sentence_and_its_exit_code(
    arguments: list[str],
    code: int,
    says: str,
    inside: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = held(inside)
    exit_code, line = refused(arguments, capsys)
    assert says in line
    assert exit_code == code
    assert held(inside) == before


def test_a_folder_that_a_service_cannot_make_is_one_sentence() -> None:
    result = run("broker", "--bind", "tcp://127.0.0.1:0", "--coordination-dir", LONG)
    assert "xxx: File name too long; name another file" in fails(result, 2)
    assert result.stderr.count("\n") == 1


def test_there_are_enough() -> None:
    assert len(CASES) >= 100


UNKNOWN = {
    "show": "no such job",
    "wait": "no such job",
    "results": "no such job",
    "logs": "no such job",
    "why": "no such job",
    "cancel": "no such job",
    "pause": "no such job",
    "resume": "no such job",
    "forget": "no such job",
}


def test_what_the_broker_does_not_know(
    cluster: LocalCluster, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = ["--broker", cluster.address]
    for verb, says in UNKNOWN.items():
        assert says in refused([verb, "zzz", *broker], capsys)[1]
    assert "no such job" in refused(["retry", "--failed", "zzz", *broker], capsys)[1]
    assert "no such job" in refused(["export", "zzz", "--chrome-trace", "t", *broker], capsys)[1]
    assert "no node 'zzz'" in refused(["drain", "zzz", *broker], capsys)[1]
    assert "--journal" in refused(["backup", "copy", *broker], capsys)[1]
    assert "--http" in refused(["dashboard", *broker], capsys)[1]
    with Client(cluster.address) as client:
        whole = client.submit_job(int, [("7",)], durable=True)
        assert whole.wait(100)
        attached = client.submit_job(int, [("7",)])
        assert attached.wait(100)
        waiting = client.submit_job(int, [("7",)], durable=True, resources={"moon": 1})
        assert "no task of job" in refused(["retry", "--failed", whole.id, *broker], capsys)[1]
        beyond = ["logs", whole.id, "--task", "1", *broker]
        assert "has 1 task, numbered from 0" in refused(beyond, capsys)[1]
        assert "is not durable" in refused(["results", attached.id, *broker], capsys)[1]
        assert "over" in refused(["forget", waiting.id, *broker], capsys)[1]
        old = inside / "old.jsonl"
        line = refused(["results", whole.id, "--output", str(old), *broker], capsys)[1]
        assert "replace it by --overwrite" in line
        assert old.read_text() == FILES["old.jsonl"]
        waiting.cancel()


WRITERS = [
    ["--help"],
    ["map", "--help"],
    ["jobs"],
    ["nodes", "--json"],
    ["show", "JOB"],
    ["results", "JOB"],
    ["logs", "JOB"],
    ["wait", "JOB"],
    ["run", "math:sqrt", "4"],
    ["map", "math:sqrt", "--input", "items"],
    ["exec", "echo", "a"],
    ["exec", "--dry-run", "echo", ":::", "a"],
    ["health"],
    ["keys", "list", "--allow-file", "none"],
    ["completion", "bash"],
]


@pytest.fixture(scope="module")
def printed(cluster: LocalCluster) -> str:
    """A job that has printed something; its id."""
    with Client(cluster.address) as client:
        job = client.submit_job(print, [("something",)], durable=True)
        assert job.wait(100)
        return job.id


@pytest.mark.parametrize("words", WRITERS, ids=[" ".join(words) for words in WRITERS])
@pytest.mark.parametrize("why", ["No space left on device", "Broken pipe"])
def test_a_disk_that_is_full_and_a_reader_that_has_gone(
    words: list[str],
    why: str,
    printed: str,
    inside: Path,
    cluster: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MANYHANDS_BROKER", cluster.address)
    before = held(inside)
    if why == "Broken pipe":
        gone, descriptor = os.pipe()
        os.close(gone)
    else:
        descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = os.fdopen(descriptor, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    code = _app.run([printed if word == "JOB" else word for word in words])
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        stream.close()
    errors = capsys.readouterr().err
    assert errors.endswith(f"error: cannot write the output: {why}\n")
    assert "Traceback" not in errors
    assert code == 1
    assert held(inside) == before


def test_a_full_disk_for_an_output_that_is_named(
    inside: Path, cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["map", "math:sqrt", "--input", "items", "--broker", cluster.address]
    code = _app.run([*arguments, "--output", "/dev/full"])
    assert code == 1
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].endswith("No space left on device")
    assert held(inside)["items"] == b"4\n9\n"
