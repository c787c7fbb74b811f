"""What functions that travel may look up by text."""

from __future__ import annotations

from types import CodeType

import pytest

from manyhands_shared.payloads.by_value.text_lookups import looks_up_by_text, texts


def code(source: str) -> CodeType:
    return compile(source, "script", "exec", dont_inherit=True)


@pytest.mark.parametrize(
    "source",
    [
        "globals()[name]",
        "eval(text)",
        "exec(text)",
        "import __main__",
        "sys.modules['__main__']",
        "getattr(sys.modules[__name__], name)",
        "def f():\n def g():\n  return globals()",
    ],
)
def test_code_that_may_ask_for_any_name(source: str) -> None:
    assert looks_up_by_text(code(source))


@pytest.mark.parametrize("source", ["f(x)", "sys.modules[name]", "__name__", "x.y.z['globals']"])
def test_code_that_names_what_it_asks_for(source: str) -> None:
    assert not looks_up_by_text(code(source))


def test_annotations_are_told_from_sentences() -> None:
    source = '''
def f(a: "Inner", b: "list[Outer] | None", c: "dict[str, Key]"):
    """Make a Model of Inner."""
    class Local:
        """A Model."""
        x: "Nested"
'''
    found = set(texts(code(source)))
    assert {"Inner", "list[Outer] | None", "dict[str, Key]", "Nested"} <= found
    assert not any("Model" in text for text in found)
