"""Check the writing rule: sentences of at most 25 words, and none of the retired words.

    python tools/prose.py                   compare every file with the baseline
    python tools/prose.py docs/security.md  list what there is to mend in these files
    python tools/prose.py --lower           write the baseline anew after mending; it can only shrink

Reads the pages, in Python docstrings, comments and messages, and the comments of settings.
`prose-baseline.txt` says how many findings each file still has. A file with more fails, and so does one
with fewer: then lower the baseline.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import passages

LONGEST = 25
BASELINE = Path("tools/prose-baseline.txt")
PAGES = ("*.md", "docs/*.md", "changes/*.md")
#: What is neither a page nor Python and has comments.
SETTINGS = (
    "Makefile",
    "Dockerfile",
    "*.yaml",
    "*.toml",
    ".*.yaml",
    ".ci/*",
    ".github/**/*",
    "deploy/**/*",
)
PACKAGES = ("bench", "broker", "client", "examples", "shared", "tests", "tools", "worker")

# Words for persons where a part acts, and clauses that come before what they speak of.
_RETIRED = re.compile(
    r"\b(?:whoever|somebody|nobody|save\sthat|not\sto\sbe\shad|be\sit|in\svain"
    r"|ha(?:s|ve|d)\sto\sfollow|so\smany|of\swhich|to\swhich)\b",
    re.IGNORECASE,
)
#: A sentence ends with its mark, whatever closes behind it, and room before the next.
_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+")
#: Points that end no sentence.
_SHORT = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|resp|incl|No|St)\.", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]")


class Finding(NamedTuple):
    """What is wrong on which line."""

    line: int
    what: str


def findings(path: Path) -> list[Finding]:
    """Return what breaks the rule in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        found = passages.of_markdown(text)
    elif path.suffix != ".py":
        found = passages.of_settings(text)
    else:
        # What tests compare with is not theirs to word.
        found = passages.of_python(text, messages=path.parts[0] != "tests")
    return sorted(finding for passage in found for finding in judge(passage))


def judge(passage: passages.Passage) -> Iterator[Finding]:
    """Yield what breaks the rule in a passage."""
    text = " ".join(passage.text.split())
    for word in _RETIRED.findall(text):
        yield Finding(passage.line, f'retired: "{word.lower()}"')
    for sentence in _END.split(_SHORT.sub(r"\1", text)):
        words = [word for word in sentence.split() if _WORD.search(word)]
        if len(words) > LONGEST:
            start = " ".join(words[:8])
            yield Finding(passage.line, f"{len(words)} words: {start} ...")


def files() -> Iterator[Path]:
    """Yield every file that holds prose."""
    for pattern in PAGES + SETTINGS:
        yield from (path for path in Path().glob(pattern) if path.is_file())
    for package in PACKAGES:
        yield from Path(package).rglob("*.py")


def baseline() -> dict[str, int]:
    """Return what is still allowed in each file; the least where a merge has left several lines."""
    allowed: dict[str, int] = {}
    for line in BASELINE.read_text(encoding="utf-8").splitlines():
        path, _, number = line.rpartition(" ")
        allowed[path] = min(int(number), allowed.get(path, sys.maxsize))
    return allowed


def risen(now: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """Return one line for each file, old or new, that has more than it may."""
    lines = [
        f"{path}: {now[path]} findings, {allowed[path]} allowed"
        for path in sorted(now.keys() & allowed.keys())
        if now[path] > allowed[path]
    ]
    # A file that moves takes its findings along: new files may have what vanished ones had.
    fresh = sorted(now.keys() - allowed.keys())
    left = sum(allowed[path] for path in allowed.keys() - now.keys())
    if sum(now[path] for path in fresh) > left:
        lines += [f"{path}: {now[path]} findings in a file that is new" for path in fresh]
    return lines


def lower(now: Mapping[str, int]) -> int:
    """Write the baseline as the files are now, unless it would rise."""
    if BASELINE.exists() and (worse := risen(now, baseline())):
        print("\n".join([*worse, "the baseline only shrinks"]))
        return 1
    BASELINE.write_text("".join(f"{path} {now[path]}\n" for path in sorted(now)), encoding="utf-8")
    return 0


def compare(found: Mapping[str, list[Finding]]) -> int:
    """Print what differs from the baseline; 1 if anything does."""
    allowed = baseline()
    status = 0
    for path in sorted({*found, *allowed}):
        there, may = len(found.get(path, ())), allowed.get(path, 0)
        if there > may:
            print("\n".join(f"{path}:{line}: {what}" for line, what in found[path]))
            hint = "" if path in allowed else "; if the file moved: python tools/prose.py --lower"
            print(f"{path}: {there} findings, {may} allowed: mend at least {there - may}{hint}")
        elif there < may:
            print(f"{path}: {there} findings, {may} allowed: run python tools/prose.py --lower")
        status |= there != may
    if not status:
        print(f"as in the baseline: {sum(allowed.values())} findings in {len(allowed)} files")
    return status


def main(arguments: list[str]) -> int:
    """Check, list or lower; returns an exit code."""
    if arguments and arguments != ["--lower"]:
        shown = [
            f"{name}:{line}: {what}" for name in arguments for line, what in findings(Path(name))
        ]
        print("\n".join(shown) or "nothing to mend")
        return 1 if shown else 0
    found = {str(path): there for path in files() if (there := findings(path))}
    if arguments:
        return lower({path: len(there) for path, there in found.items()})
    return compare(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
