"""Replacement strings in commands and in names of files."""

from __future__ import annotations

import shlex

import pytest

from manyhands_shared.programs import template
from manyhands_shared.programs.program import Program
from manyhands_shared.programs.template import Values


@pytest.mark.parametrize(
    ("word", "given", "made"),
    [
        ("{}", "a/b c.tar.gz", "a/b c.tar.gz"),
        ("<{}>", "a", "<a>"),
        ("{.}", "a/b.tar.gz", "a/b.tar"),
        ("{.}", "a.d/b", "a.d/b"),
        ("{/}", "a/b.c", "b.c"),
        ("{//}", "a/b.c", "a"),
        ("{//}", "b.c", "."),
        ("{//}", "/b", "/"),
        ("{/.}", "a/b.c.d", "b.c"),
        ("{#}-{%}", "x", "7-3"),
        ("{x} {1}", "y", "{x} y"),
        ("{0}", "y", "{0}"),
        ("%t", "y", "%t"),
    ],
)
def test_replacement_strings_are_those_of_gnu_parallel(word: str, given: str, made: str) -> None:
    assert template.arguments([word], Values(7, "70", [given], 3)) == [made]


def test_several_inputs_have_numbers() -> None:
    values = Values(1, "1", ["a/b.c", "d"])
    words = ["{}", "{2}{1/.}", "<{}>", "{3}"]
    assert template.arguments(words, values) == ["a/b.c", "d", "db", "<a/b.c d>", ""]
    assert template.highest_input(words) == 3
    for word in (*words, "{#}", "{%}"):
        assert template.has_replacement(["a", word])
    assert not template.has_replacement(["a", "{x}"])


def test_a_line_of_shell_takes_inputs_as_they_are() -> None:
    values = Values(1, "1", ["it's; rm -rf $HOME"])
    line = template.line(["echo", "{}", "|", "wc"], values)
    assert shlex.split(line)[1] == "it's; rm -rf $HOME"
    assert line.startswith("echo ")
    assert line.endswith(" | wc")


def test_names_of_files_have_the_task() -> None:
    values = Values(3, "30", ["in/a.csv"])
    assert template.file_name("out/%t-{/.}-{#}.txt", values) == "out/30-a-3.txt"
    assert template.tells_apart("%t")
    assert template.tells_apart("{/}")
    assert not template.tells_apart("{%}.log")


def test_a_program_travels_with_names_that_are_no_utf8() -> None:
    program = Program(("cat", "na\udce9"), directory="/x\udcff", variables={"A": "b\udc80"})
    assert Program.decode(program.encode()) == program
