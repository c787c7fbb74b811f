"""ZeroMQ's authenticator, in a thread of its own: it is asked which keys a socket lets in.

Imported with the first socket that has one: it takes asyncio along.
"""

from __future__ import annotations

import errno

from zmq.auth.thread import ThreadAuthenticator


class Authenticator(ThreadAuthenticator):
    """Leaves nothing behind where the system gives it no thread."""

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: the system gives none, as where `ulimit -u` is reached.
        """
        try:
            super().start()
        except RuntimeError as error:
            # Behind the farewell that it is sent: without the other end that would wait for one.
            other_end = self.thread.pipe
            self.stop()
            other_end.close(0)
            raise OSError(errno.EAGAIN, str(error)) from None
