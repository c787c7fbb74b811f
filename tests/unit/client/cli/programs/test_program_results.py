"""`manyhands results` of programs that were left with the broker."""

from __future__ import annotations

import json
import socket

import pytest

from harness.command import fails, run


@pytest.mark.parametrize("safe", [[], ["--safe"]], ids=["", "safe"])
def test_results_tell_all_of_programs(safe: list[str], named: dict[str, str]) -> None:
    line = r"printf 'out\351'; echo why >&2; exit {}"
    words = ["--detach", *safe, "--shell", line, ":::", "0", "3"]
    job = run("exec", *words, env=named).stdout.strip()
    result = run("results", job, env=named)
    assert "1 of 2 tasks failed, task 1 first" in fails(result, 1)
    lines = sorted(map(json.loads, result.stdout.splitlines()), key=lambda entry: entry["index"])
    well, wrong = (entry.get("result", entry.get("error")) for entry in lines)
    assert wrong["message"].startswith("exit code 3: ")
    for told, code in ((well, 0), (wrong, 3)):
        assert (told["exit"], told["signal"]) == (code, 0)
        assert (told["stdout"], told["stderr"]) == ("out\udce9", "why\n")
        assert told["start"] > told["seconds"] > 0
        assert told["host"] == socket.gethostname()
        assert told["slot"] in (1, 2)


def test_an_output_in_a_file_is_not_in_the_results(named: dict[str, str], tmp_path: object) -> None:
    words = ["--detach", "--stdout", f"{tmp_path}/%t", "sh", "-c", "echo out; exit {}"]
    job = run("exec", *words, ":::", "4", env=named).stdout.strip()
    result = run("results", job, env=named)
    assert "exit code 4" in fails(result, 1)
    told = json.loads(result.stdout)["error"]
    assert (told["exit"], told["stdout"], told["stderr"]) == (4, "", "")
