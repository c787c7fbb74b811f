"""Functions that look up names of the script by text: `globals()`, `eval`, `import __main__`.

What they will ask for stands nowhere in their code. So they take along what the script has, as far as
that is plain and small.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from types import CodeType

_WORDS = frozenset({"globals", "eval", "exec", "__main__"})
_LOADERS = frozenset({"load", "loads", "Unpickler"})
#: Names with what may stand between them. Sentences, in docstrings, are none.
_ANNOTATION = re.compile(r"""[\w.\[\]'"]+(?:(?:, ?| ?\| ?)[\w.\[\]'"]+)*""")
_known: weakref.WeakKeyDictionary[CodeType, bool] = weakref.WeakKeyDictionary()


def looks_up_by_text(code: CodeType) -> bool:
    """Whether code, or code nested in it, may look up any name of its script."""
    found = _known.get(code)
    if found is None:
        found = _known[code] = any(
            not _WORDS.isdisjoint(one.co_names)
            or "__main__" in one.co_consts
            or {"modules", "__name__"}.issubset(one.co_names)
            for one in nested(code)
        )
    return found


def may_unpickle(code: CodeType) -> bool:
    """Whether code, or code nested in it, calls something that is called as `pickle.load` is."""
    return any(not _LOADERS.isdisjoint(one.co_names) for one in nested(code))


def nested(code: CodeType) -> Iterator[CodeType]:
    """Give code, and all code in it."""
    pending = [code]
    while pending:
        code = pending.pop()
        yield code
        pending += (one for one in code.co_consts if isinstance(one, CodeType))


def texts(code: CodeType) -> Iterator[str]:
    """Give the texts in code, and in code nested in it, that may be annotations."""
    for one in nested(code):
        for constant in one.co_consts:
            for text in constant if isinstance(constant, tuple) else (constant,):
                if isinstance(text, str) and _ANNOTATION.fullmatch(text):
                    yield text
