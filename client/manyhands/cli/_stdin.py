"""What a node that another host started gets over its standard input: the key, and the end."""

from __future__ import annotations

import os
import stat

from manyhands_shared.errors import ConfigError

STDIN = 0
_MAX_BYTES = 1 << 16


def key_file() -> str:
    """Read a key file from stdin, up to an empty line or the end; the path of a copy in memory.

    Nothing behind the empty line is taken. The copy is this process's own and ends with it.

    Raises:
        ConfigError: nothing came, or far too much; or this system has no files in memory.
    """
    if not hasattr(os, "memfd_create"):
        raise ConfigError("a key from stdin takes Linux; give it as a file: --key-file FILE")
    text = b""
    while not text.endswith(b"\n\n"):
        # Byte by byte: what is behind the key belongs to another reader.
        byte = os.read(STDIN, 1)
        text += byte
        if not byte:
            break
        if len(text) > _MAX_BYTES:
            raise ConfigError("what came over stdin is no key file")
    if stat.S_ISREG(os.fstat(STDIN).st_mode):
        # Else what is started from here could read it once more.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, STDIN)
        os.close(null)
    if not text.strip():
        raise ConfigError("no key came over stdin; write: manyhands worker --key-file - < FILE")
    memory = os.memfd_create("key")
    os.fchmod(memory, stat.S_IRUSR | stat.S_IWUSR)
    os.write(memory, text)
    return f"/proc/self/fd/{memory}"
