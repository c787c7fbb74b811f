"""Read the prose out of pages, Python and settings: passages of words, with the line where each begins.

A passage is a paragraph, an item of a list, a cell of a table, a docstring's part, a comment or a
message. Code is not prose: fenced and indented blocks are left out, and what stands between
backticks counts as one word.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Container, Iterator
from typing import NamedTuple

#: Stands for a piece of code within a sentence.
_CODE = "Code"
_FENCE = re.compile(r"^\s*(```|~~~)")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_RULED = re.compile(r"^\s*\|?[\s:|-]*-[\s:|-]*$")
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INLINE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\](?:\([^)]*\)|\[[^\]]*\])")
_TAG = re.compile(r"<[^<>\n]+>")
#: An entry of a docstring's section on arguments or errors.
_ENTRY = re.compile(r"^\*{0,2}[\w.]+(?: \([^)]*\))?:\s")
_SECTION = re.compile(r"^(?:Args|Arguments|Raises|Returns|Yields|Attributes|Note|Example)s?:$")
_COMMENT = re.compile(r"^\s*#(?!!) ?(.*)$")
#: Comments that speak to tools.
_DIRECTIVE = re.compile(r"^#(?:!|\s*(?:noqa|type:|fmt:|mypy:|ruff:|pragma:|codespell:))")
#: A row of a table in a docstring: cells with room between them.
_GAP = re.compile(r"(?<=\S) {2,}(?=\S)")
_SQL = re.compile(r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|WITH|PRAGMA|DROP|BEGIN)\b")
#: A string of fewer words is a key, a name or a format.
_MESSAGE_WORDS = 4


class Passage(NamedTuple):
    """Words that belong together, and the line on which they begin."""

    line: int
    text: str


def of_markdown(text: str) -> Iterator[Passage]:
    """Yield the passages of a page."""
    # Comments may hold anything; their lines have to stay, for the numbers of those that follow.
    text = _HTML_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    yield from _blocks(text.splitlines(), 1, markdown=True)


def of_python(source: str, *, messages: bool) -> Iterator[Passage]:
    """Yield the docstrings and comments of a module, and with `messages` its longer strings too."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str(text)) as found), *_]:
                    docstrings.add(found)
                    yield from _docstring(text, found)
    yield from _comments(source)
    if messages:
        yield from _messages(tree, docstrings)


def of_settings(text: str) -> Iterator[Passage]:
    """Yield the comments of a file in which they begin with a hash: YAML, TOML, a Makefile, a script."""
    block = list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if comment := _COMMENT.match(line):
            block.append(comment[1])
        elif block:
            yield from _blocks(block, number - len(block), markdown=False)
            block = []


def _docstring(text: str, found: ast.Constant) -> Iterator[Passage]:
    margin = " " * found.col_offset
    lines = [line.removeprefix(margin) for line in text.splitlines()]
    yield from _blocks(lines, found.lineno, markdown=False)


def _blocks(lines: list[str], first: int, *, markdown: bool) -> Iterator[Passage]:
    """Passages of a text in which blank lines, items, headings and tables part them."""
    start, gathered, fence, section, code = first, list[str](), "", False, False
    for number, line in enumerate(lines, first):
        bare = line.strip()
        mark = _FENCE.match(line)
        begins = bool(_ITEM.match(line)) or bare.startswith(("#", ">")) or mark is not None
        if section and line.startswith("    ") and _ENTRY.match(bare):
            begins = True
        if gathered and (begins or not bare or fence or _SECTION.match(bare) or "|" in bare[:1]):
            yield Passage(start, _plain("\n".join(gathered)))
            gathered = []
        if mark is not None:
            fence = "" if fence == mark[1] else fence or mark[1]
        elif fence or not bare:
            code = code and not bare
        elif not markdown and _SECTION.match(bare):
            section = True
        elif bare.startswith("|") or (not markdown and _GAP.search(bare)):
            cells = _INLINE.sub(_CODE, bare)
            for cell in [] if _RULED.match(bare) else re.split(r"\|| {2,}|<br>", cells):
                yield Passage(number, _plain(cell))
        else:
            section = section and line.startswith("    ")
            if not gathered:
                # Text that stands further in, and belongs to no item or section, is code.
                code = line.startswith("    ") and not begins and not section and not markdown
            if code or bare.startswith(">>>"):
                continue
            if not gathered:
                start = number
            words = _ITEM.sub("", line).strip().lstrip("#> ")
            gathered.append(_ENTRY.sub("", words) if section and begins else words)
    if gathered:
        yield Passage(start, _plain("\n".join(gathered)))


def _comments(source: str) -> Iterator[Passage]:
    """Comments; lines of them one below the other are one text."""
    column, last = -1, -1
    block = list[str]()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    for token in tokens:
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        line, at = token.start
        alone = not token.line[:at].strip()
        if block and not (alone and line == last + 1 and at == column):
            yield from _blocks(block, last - len(block) + 1, markdown=False)
            block = []
        block.append(token.string.lstrip("#:").removeprefix(" "))
        column, last = (at if alone else -1), line
    yield from _blocks(block, last - len(block) + 1, markdown=False)


def _messages(tree: ast.Module, docstrings: Container[ast.expr]) -> Iterator[Passage]:
    """Strings that are sentences: what errors, logs and help say."""
    inner = set[ast.expr]()
    # Outer nodes come first: the parts of a formatted string are known before they are met.
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=parts):
                inner.update(parts)
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else _CODE for part in parts
                )
            case ast.Constant(str(text)) if node not in inner and node not in docstrings:
                pass
            case _:
                continue
        if len(text.split()) >= _MESSAGE_WORDS and not _SQL.match(text):
            yield from _blocks(text.splitlines(), node.lineno, markdown=False)


def _plain(text: str) -> str:
    """The text without markup, a piece of code as one word."""
    text = _LINK.sub(r"\1", _INLINE.sub(_CODE, text))
    return _TAG.sub(" ", text.replace("**", "").replace("__", ""))
