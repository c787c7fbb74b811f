"""`manyhands map`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import command
from harness.command import fails, run, running
from harness.processes import eventually, free_port
from manyhands import Client, LocalCluster
from manyhands.cli._stream import Stream


def lines(text: str) -> dict[int, dict[str, Any]]:
    """Entries by index."""
    entries = [json.loads(line) for line in text.splitlines()]
    assert len({entry["index"] for entry in entries}) == len(entries)
    return {entry.pop("index"): entry for entry in entries}


def test_every_line_has_its_result(named: dict[str, str], tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("".join(f"{number}\n" for number in range(500)))
    result = run("map", "operator:neg", "--input", items, "--output", results, env=named)
    assert result.returncode == 0
    assert result.stdout == ""
    assert result.stderr.startswith("500 items in ")
    assert lines(results.read_text()) == {number: {"result": -number} for number in range(500)}


def test_stdin_and_stdout_and_blank_lines(named: dict[str, str]) -> None:
    result = run("map", "builtins:len", stdin='"a"\n\n  \n[1, 2]\n{"x": 1}', env=named)
    assert lines(result.stdout) == {0: {"result": 1}, 1: {"result": 2}, 2: {"result": 1}}


def test_star_spreads_arrays_and_objects(named: dict[str, str]) -> None:
    stdin = '[2, 10]\n{"base": 3, "exp": 2}\n'
    result = run("map", "builtins:pow", "--star", stdin=stdin, env=named)
    assert lines(result.stdout) == {0: {"result": 1024}, 1: {"result": 9}}


def test_a_failing_item_fails_alone(named: dict[str, str]) -> None:
    result = run("map", "math:sqrt", stdin="4\n-1\n9\n", env=named)
    assert fails(result, 1) == (
        "error: 1 of 3 items failed, item 1 first: ValueError: math domain error; "
        'their lines have an "error"'
    )
    found = lines(result.stdout)
    assert found[0] == {"result": 2.0}
    assert found[1]["error"]["type"] == "ValueError"
    assert found[2] == {"result": 3.0}


def test_numbers_come_back_as_they_went(named: dict[str, str]) -> None:
    stdin = "NaN\n-1e400\n-123456789012345678901\n[1, [Infinity]]\n"
    result = run("map", "copy:copy", stdin=stdin, env=named)
    assert result.returncode == 0, result.stderr
    found = [lines(result.stdout)[index]["result"] for index in range(4)]
    wanted = ["nan", "-inf", "-123456789012345678901", "[1, [inf]]"]
    assert [str(number) for number in found] == wanted


@pytest.mark.parametrize(
    ("function", "options", "stdin", "shown"),
    [
        ("builtins:float", ["--lines"], "NaN", "nan"),
        ("operator:mul", ["--arg", "1e999"], "2", "inf"),
        ("operator:mul", ["--arg", "b'x'"], "2", "b'xx'"),
    ],
)
def test_only_an_item_that_has_nan_itself_may_have_one_as_its_result(
    named: dict[str, str], function: str, options: list[str], stdin: str, shown: str
) -> None:
    result = run("map", function, *options, stdin=stdin, env=named)
    assert "1 of 1 item failed" in fails(result, 1)
    assert json.loads(result.stdout)["repr"] == shown


def test_nan_is_written_where_that_is_asked_for(named: dict[str, str]) -> None:
    result = run("map", "builtins:float", "--allow-nan", stdin='"nan"\n"-inf"\n', env=named)
    assert result.returncode == 0, result.stderr
    found = [lines(result.stdout)[index]["result"] for index in range(2)]
    assert [str(number) for number in found] == ["nan", "-inf"]


def test_nan_and_infinity_fail_their_items_for_json_has_none(named: dict[str, str]) -> None:
    stdin = '"nan"\n"-inf"\n2\n'
    result = run("map", "builtins:float", stdin=stdin, env=named)
    assert "2 of 3 items failed" in fails(result, 1)
    found = [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]
    first, second, third = sorted(found, key=lambda entry: int(entry["index"]))
    assert (first["repr"], second["repr"], third["result"]) == ("nan", "-inf", 2.0)
    for entry in (first, second):
        assert entry["error"]["type"] == "manyhands.ResultError"
        assert "has NaN or an infinity" in entry["error"]["message"]
        assert "result" not in entry


def test_a_result_without_words_in_json_fails_its_item(named: dict[str, str]) -> None:
    result = run("map", "builtins:complex", stdin="1\n", env=named)
    fails(result, 1)
    found = [entry for entry in lines(result.stdout).values() if entry.get("repr") == "(1+0j)"]
    assert found
    assert found[0]["error"]["type"] == "manyhands.ResultError"
    assert "JSON has no words for its result, of type" in found[0]["error"]["message"]


def test_arrays_become_nested_arrays(named: dict[str, str]) -> None:
    result = run("map", "numpy:ones", stdin="[2, 2]\n", env=named)
    assert lines(result.stdout) == {0: {"result": [[1.0, 1.0], [1.0, 1.0]]}}


def test_no_items_is_no_error() -> None:
    result = run("map", "math:sqrt", stdin="\n")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        ([], "1\n{oops\n", "line 2 of <stdin>"),
        (["--star"], "1\n", "neither an array nor an object"),
        (["--input", "none.jsonl"], "", "none.jsonl"),
        (["--output", "no/such/dir/out"], "1\n", "no/such/dir/out"),
        (["--slots", "0"], "1\n", "--slots"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(
    arguments: list[str], stdin: str, says: str, tmp_path: Path
) -> None:
    result = run("map", "math:sqrt", *arguments, stdin=stdin, cwd=tmp_path)
    assert says in fails(result, 2)
    assert result.stderr.count("\n") == 1


def test_input_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(b"1\n\xff\n")
    result = run("map", "math:sqrt", "--input", tmp_path / "items")
    assert "is not UTF-8" in fails(result, 2)


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.write_text("1\n")
    result = run("map", "math:sqrt", "--input", items, "--output", f"{tmp_path}/./items")
    assert "is the input" in fails(result, 2)
    assert items.read_text() == "1\n"


def test_an_interrupted_run_leaves_the_results_it_had(
    named: dict[str, str], tmp_path: Path
) -> None:
    items, results = tmp_path / "items", tmp_path / "results"
    items.write_text("0\n600\n")
    with running("map", "time:sleep", "--input", items, "--output", results, env=named) as process:
        eventually(lambda: results.exists() and results.read_text())
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert lines(results.read_text()) == {0: {"result": None}}


def test_a_time_limit_leaves_the_results_it_had(named: dict[str, str]) -> None:
    # The first result needs some of the time, and on a busy machine more of it.
    for seconds in ("2", "10", "60"):
        result = run("map", "time:sleep", "--timeout", seconds, stdin="0\n600\n", env=named)
        fails(result, 124)
        if result.stdout:
            break
    assert lines(result.stdout) == {0: {"result": None}}


def test_a_reader_that_leaves_is_no_traceback(named: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*command.COMMAND, "map", "operator:neg"],
        input="1\n2\n",
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **named},
    )
    os.close(writing)
    assert process.returncode == 1
    assert process.stderr == "error: cannot write the output: Broken pipe\n"
    assert "failed inside" not in process.stderr


@pytest.mark.parametrize(("variables", "animated"), [({}, True), ({"TERM": "dumb"}, False)])
def test_a_progress_bar_only_on_a_terminal(
    variables: dict[str, str], animated: bool, named: dict[str, str]
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **named, **variables}
    process = subprocess.Popen(
        [*command.COMMAND, "map", "operator:neg"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    out, _ = process.communicate(b"1\n2\n3\n", timeout=100)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert len(lines(out.decode())) == 3
    assert ("\x1b[" in shown) is animated


def test_no_color(named: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.run(
        [*command.COMMAND, "frobnicate"], stderr=theirs, env=environment, timeout=100, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 2
    assert "\x1b" not in shown


def test_an_interrupted_run_goes_on_where_it_ended(named: dict[str, str], tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("4\n-1\n9\n16\n25\n")
    kept = '{"index": 2, "result": "as it was"}\n'
    failed = '{"index": 0, "error": {"type": "OSError", "message": "no"}}\n'
    results.write_text(kept + failed + '{"index": 3, "resu')
    result = run("map", "math:sqrt", "--input", items, "--output", results, "--resume", env=named)
    assert "done already: 1 of 5 items" in result.stderr
    assert fails(result, 1).startswith("error: 1 of 4 items failed, item 1 first: ValueError: ")
    text = results.read_text()
    assert text.startswith(kept + failed), "what was whole stays"
    found = {entry.pop("index"): entry for entry in map(json.loads, text.splitlines())}
    assert found.pop(1)["error"]["type"] == "ValueError"
    assert found == {
        0: {"result": 2.0},
        2: {"result": "as it was"},
        3: {"result": 4.0},
        4: {"result": 5.0},
    }


def test_a_torn_line_goes_also_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("4\n")
    whole = '{"index": 0, "result": 2.0}\n'
    results.write_text(whole + '{"index": 0, "resu')
    result = run("map", "math:sqrt", "--input", items, "--output", results, "--resume")
    assert (result.returncode, results.read_text()) == (0, whole)


@pytest.mark.parametrize("text", ["nonsense\n", '{"index": 7, "result": 1}\n', "[]\n"])
def test_resume_refuses_what_is_no_output_of_this_run(text: str, tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("4\n")
    results.write_text(text)
    arguments = ("map", "math:sqrt", "--input", items, "--output", results, "--resume")
    assert "line 1 of" in fails(run(*arguments), 2)
    assert results.read_text() == text


def test_without_a_broker_the_old_results_stay(tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("4\n")
    old = '{"index": 0, "result": "of yesterday"}\n{"index": 1, "resu'
    gone = {"MANYHANDS_BROKER": f"127.0.0.1:{free_port()}", "MANYHANDS_MAP_CONNECT_TIMEOUT": "0.5"}
    for flags in (["--overwrite"], ["--resume"]):
        results.write_text(old)
        arguments: tuple[str | Path, ...] = (
            "map",
            "math:sqrt",
            "--input",
            items,
            "--output",
            results,
            *flags,
        )
        if flags == ["--resume"]:
            items.write_text("4\n9\n")
        fails(run(*arguments, env=gone), 3)
        assert results.read_text() == old
    new = tmp_path / "new.jsonl"
    fails(run("map", "math:sqrt", "--input", items, "--output", new, env=gone), 3)
    assert not new.exists()


def test_an_output_that_is_not_empty_needs_a_word(named: dict[str, str], tmp_path: Path) -> None:
    items, results = tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    items.write_text("4\n")
    results.write_text('{"index": 0, "result": "old"}\n')
    arguments = ("map", "math:sqrt", "--input", items, "--output", results)
    said = fails(run(*arguments, env=named), 2)
    assert "--resume" in said
    assert "--overwrite" in said
    assert results.read_text() == '{"index": 0, "result": "old"}\n'
    assert run(*arguments, "--overwrite", env=named).returncode == 0
    assert lines(results.read_text()) == {0: {"result": 2.0}}
    results.write_text("")
    assert run(*arguments, env=named).returncode == 0
    assert lines(results.read_text()) == {0: {"result": 2.0}}


def test_long_numbers_go_in_and_come_out(named: dict[str, str]) -> None:
    digits = "7" * 5_000
    result = run("map", "operator:pos", stdin=f"{digits}\n", env=named)
    assert (result.returncode, result.stdout) == (0, f'{{"index": 0, "result": {digits}}}\n')


def test_lone_surrogates_come_back_and_harm_nobody(named: dict[str, str]) -> None:
    stdin = '1\n"\\ud800"\n{"\\udfff": ["\\ud800"]}\n"\\ud83d\\ude00"\n'
    result = run("map", "copy:copy", stdin=stdin, env=named)
    assert result.returncode == 0, result.stderr
    assert lines(result.stdout) == {
        0: {"result": 1},
        1: {"result": "\ud800"},
        2: {"result": {"\udfff": ["\ud800"]}},
        3: {"result": "\U0001f600"},
    }


def test_a_line_that_cannot_be_sent_fails_alone(named: dict[str, str]) -> None:
    stdin = '"a"\n"\\ud800"\n123456789012345678901\n"b"\n'
    result = run("map", "copy:copy", "--safe", stdin=stdin, env=named)
    line = fails(result, 1)
    assert line.startswith(
        "error: 2 of 4 items failed, item 1 first: manyhands.SubmitError: a safe job"
    )
    found = lines(result.stdout)
    assert (found[0], found[3]) == ({"result": "a"}, {"result": "b"})
    assert "surrogates" in found[1]["error"]["message"]
    assert "out of range" in found[2]["error"]["message"]


def test_lines_may_be_texts_with_further_arguments(named: dict[str, str]) -> None:
    result = run("map", "builtins:int", "--lines", "--arg", "16", stdin="ff\n0x10\n", env=named)
    assert lines(result.stdout) == {0: {"result": 255}, 1: {"result": 16}}
    result = run("map", "builtins:len", "--lines", stdin='a\n\n"b"', env=named)
    assert lines(result.stdout) == {0: {"result": 1}, 1: {"result": 0}, 2: {"result": 3}}
    wrong = run("map", "builtins:int", "--lines", "--star", stdin="1\n")
    assert "--star spreads JSON" in fails(wrong, 2)


def test_a_mark_of_utf8_is_no_part_of_the_first_line(named: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(b"\xef\xbb\xbf4\n9\n")
    result = run("map", "math:sqrt", "--input", tmp_path / "items", env=named)
    assert lines(result.stdout) == {0: {"result": 2.0}, 1: {"result": 3.0}}


def test_an_item_starts_when_its_line_is_there(named: dict[str, str], tmp_path: Path) -> None:
    fifo, results = tmp_path / "fifo", tmp_path / "results"
    os.mkfifo(fifo)

    def written() -> int:
        return len(results.read_text().splitlines()) if results.exists() else 0

    with running("map", "math:sqrt", "--input", fifo, "--output", results, env=named) as process:
        with fifo.open("w") as source:
            for number in range(3):
                source.write(f"{number * number}\n")
                source.flush()
                eventually(lambda: written() > number, timeout=100)  # noqa: B023 - called at once
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert len(lines(results.read_text())) == 3


def test_a_wrong_line_far_behind_leaves_the_results_before_it(named: dict[str, str]) -> None:
    good = "".join(f"{number}\n" for number in range(30_000))
    result = run("map", "operator:neg", stdin=f"{good}oops\n", env=named)
    assert "line 30001 of <stdin>" in fails(result, 2)
    assert len(lines(result.stdout)) == 30_000


@pytest.fixture
def half(named: dict[str, str], tmp_path: Path) -> Path:
    """The output of a run with one failed item of three."""
    results = tmp_path / "results.jsonl"
    arguments = ("map", "math:sqrt", "--output", results)
    fails(run(*arguments, stdin="4\n-1\n9\n", env=named), 1)
    return results


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["math:exp"], "4\n-1\n9\n", "function was 'math:sqrt' and is 'math:exp' here"),
        (["math:sqrt", "--lines"], "4\n-1\n9\n", "text was False and is True here"),
        (["math:sqrt"], "5\n-1\n9\n", "its first 1 items are others"),
        (["math:sqrt"], "4\n1\n9\n", "its first 2 items are others"),
    ],
)
def test_resume_refuses_the_output_of_another_run(
    arguments: list[str], stdin: str, says: str, named: dict[str, str], half: Path
) -> None:
    before = half.read_text()
    items = half.with_name("items")
    items.write_text(stdin)
    for source in (["--input", str(items)], []):
        told = ["map", *arguments, "--output", str(half), "--resume", *source]
        result = run(*told, stdin=stdin, env=named)
        assert says in fails(result, 2)
        assert "--overwrite" in result.stderr
        assert half.read_text() == before


def test_resume_refuses_what_other_code_has_made(named: dict[str, str], tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text("def half(number):\n    return 2 // number\n")
    (tmp_path / "work.py").write_text("from helper import half\ndef f(n):\n    return half(n)\n")
    results = tmp_path / "results.jsonl"
    command = ("map", "work:f", "--output", results)

    def goes_on(*options: str) -> subprocess.CompletedProcess[str]:
        return run(*command, *options, stdin="1\n0\n", cwd=tmp_path, env=named)

    assert goes_on().returncode == 1
    before = results.read_text()
    # Options that change no result may be others.
    assert goes_on("--resume", "--retries", "1", "--retry-delay", "0").returncode == 1
    before = results.read_text()
    helper.write_text("def half(number):\n    return 3 if number else 0\n")
    line = fails(goes_on("--resume"), 2)
    assert "is of other code of the same function; keep its results with --resume-changed" in line
    assert results.read_text() == before
    assert goes_on("--resume-changed").returncode == 0
    entries = [json.loads(line) for line in results.read_text().splitlines()]
    assert [entry["result"] for entry in entries if "result" in entry] == [2, 0]
    assert goes_on("--resume").returncode == 0, "the output is of the code of now"


def test_resume_goes_on_with_its_own_output(named: dict[str, str], half: Path) -> None:
    with half.with_name(f"{half.name}.run").open("a") as file:
        file.write('{"torn')
    arguments = ("map", "math:sqrt", "--output", half, "--resume")
    result = run(*arguments, stdin="4\n-1\n9\n16\n", env=named)
    assert fails(result, 1).startswith("error: 1 of 2 items failed, item 1 first: ")
    entries = [json.loads(line) for line in half.read_text().splitlines()]
    assert [entry["index"] for entry in entries[3:]] in ([1, 3], [3, 1])
    again = run(*arguments, stdin="4\n-1\n9\n25\n", env=named)
    assert "its first 4 items are others" in fails(again, 2)


def test_no_more_than_a_window_is_out_though_room_comes_back_in_groups(
    cluster: LocalCluster,
) -> None:
    window, done, out = 96, 0, []

    def items() -> Iterator[int]:
        for number in range(1_000):
            out.append(number - done)
            yield number

    with Client(cluster.address) as client:
        stream = Stream(client, abs, items(), lambda number: (-number,), window=window)
        for item, value in stream:
            assert value == item
            eventually(lambda: len(out) > window, what="the window is full")
            done += 1
            stream.done()
    assert done == stream.submitted == 1_000
    assert max(out) == window
