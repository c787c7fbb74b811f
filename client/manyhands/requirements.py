"""`Requirements`: packages that nodes install for the tasks of a job, in an environment of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from manyhands_shared import small_file
from manyhands_shared.errors import ConfigError, ProtocolError
from manyhands_shared.protocol import labels, requirements

#: Short forms of options in requirements files.
_SHORT = {"-i": requirements.INDEX_URL, "-f": requirements.FIND_LINKS}


class Requirements:
    """What the environment of a job has installed, and where it comes from.

    >>> Requirements("numpy==2.1", "scipy")
    Requirements('numpy==2.1', 'scipy')

    Args:
        packages: as in a requirements file: ``numpy==2.1``, ``name @ https://…``.
        python: run on nodes with this Python alone, as ``3.12``. An environment has that of its node.
        variables: of the environment, for the tasks: as `environment` takes them otherwise.
        index_url: an index of packages in place of the usual one.
        extra_index_urls: more of them.
        find_links: pages with links to packages, or directories of the node that have them.
        no_index: look there alone.

    Raises:
        ConfigError: an installer cannot be given this; the text says why.
    """

    def __init__(
        self,
        *packages: str,
        python: str = "",
        variables: Mapping[str, str] | None = None,
        index_url: str = "",
        extra_index_urls: Iterable[str] = (),
        find_links: Iterable[str | os.PathLike[str]] = (),
        no_index: bool = False,
    ) -> None:
        for name, given in (("extra_index_urls", extra_index_urls), ("find_links", find_links)):
            if isinstance(given, str | os.PathLike):
                raise ConfigError(f"{name} takes a list, not {given!r:.80}")
        if wrong := [text for text in packages if not isinstance(text, str) or text[:1] == "-"]:
            raise ConfigError(f"{wrong[0]!r:.80} is no package to install")
        lines = list(packages)
        if index_url:
            lines.append(f"{requirements.INDEX_URL} {index_url}")
        lines += [f"{requirements.EXTRA_INDEX_URL} {url}" for url in extra_index_urls]
        lines += [f"{requirements.FIND_LINKS} {os.fspath(place)}" for place in find_links]
        if no_index:
            lines.append(requirements.NO_INDEX)
        self._set(lines, python, variables)

    def _set(self, lines: list[str], python: str, variables: Mapping[str, str] | None) -> None:
        self.lines = requirements.normal(lines)
        self.python = python
        self.variables = dict(variables or {})
        try:
            requirements.check(self.lines)
        except ProtocolError as error:
            raise ConfigError(str(error)) from None
        if python and [part.isdecimal() for part in python.split(".")] != [True, True]:
            raise ConfigError(f"python takes a version as 3.12, not {python!r:.80}")

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        variables: Mapping[str, str] | None = None,
        more: Iterable[str] = (),
    ) -> Requirements:
        """Return what a requirements file asks for, and `more` packages.

        Raises:
            ConfigError: it cannot be read, or has an option that is not for nodes.
        """
        made = cls.__new__(cls)
        made._set([*_lines(_read(path)), *more], "", variables)
        return made

    @classmethod
    def from_script(
        cls,
        path: str | os.PathLike[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Requirements:
        """Return what the inline metadata of a script asks for, its block ``# /// script``.

        Where it has `requires-python`, nodes have the Python that runs the script here.

        Args:
            path: the script; the one that runs if it is left out.
            variables: of the environment, for the tasks.

        Raises:
            ConfigError: there is no script, or no such block in it, or it cannot be read.
        """
        if path is None:
            path = getattr(sys.modules["__main__"], "__file__", None)
        if path is None:
            raise ConfigError("there is no script here whose metadata could be read: name its path")
        metadata = _metadata(_read(path), os.fspath(path))
        packages = metadata.get("dependencies", [])
        if not (isinstance(packages, list) and all(isinstance(text, str) for text in packages)):
            raise ConfigError(f"dependencies of {os.fspath(path)} is no list of texts")
        python = labels.PYTHON if "requires-python" in metadata else ""
        return cls(*packages, python=python, variables=variables)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that nodes need for it."""
        found = []
        if self.lines:
            found.append(labels.environment(requirements.digest(self.lines)))
        if self.python:
            found.append(labels.python(self.python))
        return tuple(found)

    def __repr__(self) -> str:
        more = [f"{name}={getattr(self, name)!r}" for name in ("python", "variables")]
        given = [*map(repr, self.lines), *(text for text in more if text[-2:] not in ("''", "{}"))]
        return f"Requirements({', '.join(given)})"


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return small_file.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"{os.fspath(path)} cannot be read: {why}") from None


def _lines(text: str) -> list[str]:
    """Return the requirements and options in the text of a requirements file."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = f" {line}".partition(" #")[0].split()
        if words and words[0].startswith("-"):
            option, equals, value = words[0].partition("=")
            words = [_SHORT.get(option, option), *([value] if equals else []), *words[1:]]
        if words:
            found.append(" ".join(words))
    return found


def _metadata(text: str, path: str) -> dict[str, Any]:
    """Return the inline metadata of a script, as PEP 723 has it."""
    import tomllib  # noqa: PLC0415 - 10 ms, for scripts that ask for it

    lines = text.splitlines()
    begins = [at for at, line in enumerate(lines) if line.rstrip() == "# /// script"]
    if len(begins) != 1:
        found = "no block" if not begins else "more than one block"
        raise ConfigError(f"{path} has {found} of metadata that begins with '# /// script'")
    end = start = begins[0] + 1
    for at in range(start, len(lines)):
        if not lines[at].startswith("#"):
            break
        if lines[at].rstrip() == "# ///":
            end = at
    if end == start:
        raise ConfigError(f"the metadata of {path} has no end: a line '# ///'")
    try:
        return tomllib.loads("\n".join(line[2:] for line in lines[start:end]))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the metadata of {path} is no TOML: {error}") from None
