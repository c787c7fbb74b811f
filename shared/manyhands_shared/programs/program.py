"""What is the same for every task of a job of programs, as one text that travels with each."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from manyhands_shared.programs import template
from manyhands_shared.programs.template import Values


@dataclass(frozen=True, slots=True)
class Program:
    """A command with replacement strings, and the surroundings in which it runs."""

    words: tuple[str, ...]
    #: Whether the words are a line of shell.
    shell: bool = False
    #: The working directory; empty: the node's.
    directory: str = ""
    #: Variables that are set beside the node's.
    variables: dict[str, str] = field(default_factory=dict)
    #: Templates of file names on the node. Empty: no input, and the outputs come back with the result.
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""

    def arguments(self, values: Values) -> list[str]:
        """What a task runs."""
        if self.shell:
            return ["/bin/sh", "-c", template.line(self.words, values)]
        return template.arguments(self.words, values)

    def command(self, values: Values) -> str:
        """What a task runs, as a line that a shell would take."""
        if self.shell:
            return template.line(self.words, values)
        return shlex.join(template.arguments(self.words, values))

    def encode(self) -> str:
        """As text; also of names that are no UTF-8."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def decode(text: str) -> Program:
        """The reverse of `encode`.

        Raises:
            ValueError, TypeError: it is no such text.
        """
        fields = json.loads(text)
        return Program(**{**fields, "words": tuple(fields["words"])})


@lru_cache(maxsize=64)
def program_of(text: str) -> Program:
    """`Program.decode`, once for many tasks."""
    return Program.decode(text)
