"""What an output is of: the function and its code, how lines are read, and the lines themselves.

It stands in a file beside the output, ``results.jsonl.run``. Of the lines it has a digest of all so far:
behind the first few, and behind each thousand. A run that goes on with another's output is refused. If
its input is a file, that comes before any work. If it is a pipe, it comes within a thousand lines.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any

from manyhands.cli import _user_files
from manyhands.cli._reader import is_same_file
from manyhands_shared.errors import ConfigError

_EVERY = 1_000
_VERSION = 1
#: The part of a fingerprint that may change between two runs, if the user says so.
CODE = "code"


class Fingerprint:
    """The fingerprint of one run.

    Args:
        output: the output beside which it stands.
        what: the function, and how lines are read.
    """

    def __init__(self, output: Path, what: dict[str, Any]) -> None:
        self._output = output
        self._path = output.parent / f"{output.name}.run"
        self._what: dict[str, Any] = json.loads(json.dumps(what, default=repr))
        self._known: dict[int, str] = {}
        self._file: IO[str] | None = None
        self.begin()

    def check(self, source: str) -> None:
        """See whether `open` can write it.

        Raises:
            ConfigError: it cannot, or would replace the input.
        """
        if is_same_file(source, str(self._path)):
            raise ConfigError(
                f"{self._path} is the input, and stands beside the output; name another --output"
            )
        _user_files.check_writable(self._path)

    def begin(self) -> None:
        """Take the lines from the first on."""
        self._state = hashlib.blake2b(digest_size=16)
        self._count = 0

    def load(self, *, code_may_differ: bool) -> None:
        """Read that of the run to go on with; without one, nothing is compared.

        Raises:
            ConfigError: it is of another function, or of lines read in another way. Or the function's
                code is another, and must not be.
        """
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (FileNotFoundError, UnicodeDecodeError):
            return
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}") from None
        try:
            entries = [json.loads(line) for line in lines if line.endswith("\n")]
            was = entries[0]["of"] if entries else self._what
            self._known = {entry["lines"]: entry["digest"] for entry in entries[1:]}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{self._path} is not what it was; remove it, or begin anew"
            ) from None
        for name, value in self._what.items():
            if was.get(name, value) == value:
                continue
            if name != CODE:
                raise self._other(f"{name} was {was[name]!r} and is {value!r} here")
            if not code_may_differ:
                raise ConfigError(
                    f"{self._output} is of other code of the same function; keep its results with "
                    "--resume-changed, or begin anew with --overwrite"
                )

    def open(self) -> None:
        """Begin to write: after this the output is of this run.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror}") from None
        self._write({"version": _VERSION, "of": self._what})
        for count, digest in self._known.items():
            self._write({"lines": count, "digest": digest})

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()

    def take(self, line: bytes) -> None:
        """Take the next line.

        Raises:
            ConfigError: the run to go on with had another there.
        """
        self._state.update(len(line).to_bytes(8, "little"))
        self._state.update(line)
        count = self._count = self._count + 1
        if count % _EVERY and (count > _EVERY or count & (count - 1)):
            return
        digest = self._state.hexdigest()
        known = self._known.get(count)
        if known is not None and known != digest:
            raise self._other(f"its first {count} items are others")
        if known is None and self._file is not None:
            self._known[count] = digest
            self._write({"lines": count, "digest": digest})

    def _write(self, entry: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _other(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self._output} is of another run: {why}; name its own output, or begin anew with "
            "--overwrite"
        )
