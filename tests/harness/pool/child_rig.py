"""One pool child, with a test in the node's place."""

from __future__ import annotations

import socket
from collections.abc import Callable
from multiprocessing.connection import Pipe
from typing import Any

from harness.payloads import code_of
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Payload
from manyhands_worker.child.process import PoolChild
from manyhands_worker.child.runner import ChildLimits
from manyhands_worker.host.process_start import starting
from manyhands_worker.ipc import control_block, pipe
from manyhands_worker.ipc.output_capture import Capture
from manyhands_worker.ipc.output_redirect import new_secret
from manyhands_worker.ipc.segments import new_marks
from manyhands_worker.ipc.slab import SlabLedger, new_slab

FRAME_BYTES = 4 << 20
BOUND = 100.0


class Child:
    """A pool child and the node's end of everything that it shares with it."""

    def __init__(self, *, slab_bytes: int = 0, lender: str = "") -> None:
        block, slab = control_block.new_block(), new_slab(slab_bytes) if slab_bytes else None
        self.words = control_block.words(block)
        self.ledger = SlabLedger(slab, self.words)
        self.socket, far = socket.socketpair()
        self.socket.settimeout(BOUND)
        out, out_end = Pipe(duplex=False)
        error, error_end = Pipe(duplex=False)
        output = (out_end, error_end), new_secret()
        stacks, stacks_end = Pipe(duplex=False)
        limits = ChildLimits(
            FRAME_BYTES, function_bytes=1 << 20, threads=1, segment_bytes=64 << 20, lender=lender
        )
        self.process = PoolChild(0, far, block, slab, new_marks(), output, stacks_end, limits)
        with starting():
            self.process.start()
        far.close()
        out_end.close()
        error_end.close()
        stacks.close()
        stacks_end.close()
        self.output = Capture((out, error), output[1])
        self.reader, self.writer = pipe.Reader(self.socket), pipe.Writer(self.socket)
        self.next = 1

    def send(
        self,
        function: Callable[..., Any] | bytes,
        *arguments: Any,
        flags: int = 0,
        introduce: bool = True,
    ) -> int:
        """Hand it a batch of a task for each of `arguments`; returns the first serial number."""
        first, self.next = self.next, self.next + len(arguments)
        if isinstance(function, bytes):
            digest, code = b"no function here", function
        else:
            digest, code = code_of(function)
        buffers: list[Any] = []
        entries = [[], pipe.pack([code], buffers)] if introduce else None
        bodies = pipe.pack([pickled.dumps(((value,), {})) for value in arguments], buffers)
        self.writer.send([first, digest, entries, flags, None, None, bodies], buffers)
        return first

    def receive(self) -> tuple[list[Any], list[Any]]:
        """Wait for its next message."""
        while not self.reader.ready:
            assert self.reader.fill(), "it has ended"
        return self.reader.ready.popleft()

    def ended(self, count: int) -> list[tuple[int, Any]]:
        """Wait for as many reports of tasks; each status, and the body as it stands in the header."""
        found: list[tuple[int, Any]] = []
        while len(found) < count:
            (_, statuses, bodies, *_), _ = self.receive()
            found += zip(statuses, bodies, strict=True)
        return found

    def close(self) -> int:
        """Close the node's end; returns the exit code."""
        self.socket.close()
        self.process.join(BOUND)
        self.output.close()
        code = self.process.exitcode
        self.process.close()
        assert code is not None
        return code


def value(body: Payload) -> Any:
    """The result that lies in the body of a report."""
    return pickled.loads(body)
