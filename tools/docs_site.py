"""Build the documentation site into `out/site`: the pages there are, and the API by its docstrings.

    make docs

A broken link, a page that no list leads to, or a public name without a docstring fails. Building it and
reading it take no network.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import manyhands

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out"
#: Where links to what is no page lead.
REPOSITORY = "https://github.com/manyhands/manyhands"
#: Pages by their place in the repository and their name in the site, in the order of its list.
PAGES = {
    "Use it": {
        "docs/quick-start.md": "quick-start",
        "docs/drop-in.md": "drop-in",
        "docs/code.md": "code",
        "docs/multiprocessing.md": "multiprocessing",
        "docs/shell.md": "shell",
        "docs/guarantees.md": "guarantees",
        "docs/performance.md": "performance",
        "docs/loadtest.md": "loadtest",
    },
    "Run it": {
        "docs/dashboard.md": "dashboard",
        "docs/operations.md": "operations",
        "docs/security.md": "security",
        "SECURITY.md": "reporting",
    },
    "Work on it": {
        "CONTRIBUTING.md": "contributing",
        "docs/architecture.md": "architecture",
        "docs/glossary.md": "glossary",
        "docs/protocol.md": "protocol",
        "docs/guarantees-faults.md": "guarantees-faults",
        "CHANGELOG.md": "changes",
    },
}
NAMES = {"README.md": "index"} | {
    path: name for part in PAGES.values() for path, name in part.items()
}
#: Public names by subject. Every other name of `manyhands` is an error's.
REFERENCE = {
    "Pools and executors": [
        "manyhands.Pool",
        "manyhands.AsyncResult",
        "manyhands.Executor",
        "manyhands.AsyncExecutor",
        "manyhands.TaskOptions",
        "manyhands.Ref",
    ],
    "Clusters": ["manyhands.LocalCluster"],
    "Clients and jobs": ["manyhands.Client", "manyhands.Job"],
    "Many hosts on one machine": [
        f"manyhands.testbed.{name}" for name in ("Network", "Host", "Shape")
    ]
    + ["manyhands.testbed.unavailable", "manyhands.testbed.sweep"],
}
CONFIGURATION = {
    "project": "manyhands",
    "version": manyhands.__version__,
    "release": manyhands.__version__,
    "copyright": "The manyhands authors",
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"],
    "html_theme": "furo",
    "html_title": "manyhands",
    "html_show_sphinx": False,
    "html_copy_source": False,
    "myst_heading_anchors": 4,
    # Docstrings mark code with single backticks.
    "default_role": "code",
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    "autodoc_default_options": {"members": True, "inherited-members": False},
}
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: How the names of pictures end.
PICTURES = (".svg", ".png")
_LINK = re.compile(r"(?<=\]\()(?![a-z][a-z0-9+.-]*:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def main() -> int:
    """Build the site; returns an exit code."""
    unlisted = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")} - NAMES.keys()
    for what, names in {
        "pages that tools/docs_site.py does not list": unlisted,
        "public names without a docstring": set(undocumented()),
    }.items():
        if names:
            print(f"{what}: {', '.join(sorted(names))}", file=sys.stderr)
            return 1
    source = OUT / "site-source"
    shutil.rmtree(source, ignore_errors=True)
    assemble(source)
    application = Sphinx(
        source,
        None,
        OUT / "site",
        OUT / "site-cache",
        "html",
        confoverrides=CONFIGURATION,
        status=None,
        warningiserror=True,
    )
    application.build()
    print(f"the site is in {OUT / 'site'}")
    return int(application.statuscode)


def assemble(folder: Path) -> None:
    """Write the sources of the site: every page under its name, pictures, and the API."""
    folder.mkdir(parents=True)
    for path, name in NAMES.items():
        (folder / f"{name}.md").write_text(page(path), encoding="utf-8")
    for picture in (path for kind in PICTURES for path in (ROOT / "docs").rglob(f"*{kind}")):
        copy = folder / picture.relative_to(ROOT / "docs")
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(picture, copy)
    (folder / "api.md").write_text(reference(), encoding="utf-8")
    with (folder / "index.md").open("a", encoding="utf-8") as index:
        index.write(contents())


def page(path: str) -> str:
    """Return a page of the repository with its links as they are in the site."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("```mermaid", "```text")
    # What looks like a link in code is none.
    fences, parts = _FENCE.findall(text), _FENCE.split(text)
    moved = [_LINK.sub(lambda found: _moved(path, *found.groups("")), part) for part in parts]
    return "".join(part + fence for part, fence in zip(moved, [*fences, ""], strict=True))


def _moved(page: str, target: str, anchor: str) -> str:
    path = (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT)
    if name := NAMES.get(str(path)):
        return f"{name}.md{anchor}"
    if path.suffix in PICTURES:
        return str(path.relative_to("docs"))
    return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"


def contents() -> str:
    """Return the lists of pages, for the end of the first one."""
    parts = {title: list(names.values()) for title, names in PAGES.items()}
    parts["Use it"].append("api")
    lists = [
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(names) + "\n```\n"
        for title, names in parts.items()
    ]
    return "".join(lists)


def reference() -> str:
    """Return the page of the API."""
    listed = {name for names in REFERENCE.values() for name in names}
    errors = [f"manyhands.{name}" for name in manyhands.__all__ if name != "__version__"]
    parts = {**REFERENCE, "Errors": [name for name in errors if name not in listed]}
    text = (
        "# API reference\n\nEvery name on this page is public. All others may change at any time.\n"
    )
    for title, names in parts.items():
        text += f"\n## {title}\n"
        for name in names:
            kind = "class" if inspect.isclass(find(name)) else "function"
            text += f"\n```{{eval-rst}}\n.. auto{kind}:: {name}\n```\n"
    return text


def find(name: str) -> Any:
    """Return what a dotted name stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def undocumented() -> Iterator[str]:
    """Yield the public names, members of classes among them, that have no docstring."""
    names = {name for part in REFERENCE.values() for name in part}
    for name in names | {f"manyhands.{name}" for name in manyhands.__all__} - {
        "manyhands.__version__"
    }:
        value = find(name)
        if not inspect.getdoc(value):
            yield name
        if inspect.isclass(value):
            yield from (f"{name}.{member}" for member in _bare(value))


def _bare(kind: type[Any]) -> Iterator[str]:
    for name, member in vars(kind).items():
        described = callable(member) or isinstance(member, property | classmethod | staticmethod)
        if not name.startswith("_") and described and not inspect.getdoc(getattr(kind, name)):
            yield name


if __name__ == "__main__":
    sys.exit(main())
