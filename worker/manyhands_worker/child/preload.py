"""Imported once by the fork server: what every pool child needs, loaded before it is forked.

The fork server leaves when everyone who holds its pipe is gone, and children in mid-task hold it.
A node that is killed has to take all of them along. So the kernel ties the fork server to the node
here, as it ties each child to the fork server in `process`.

The node's key is hidden here, and so from all children (see `host.key_hiding`).

A SIGTERM is for the node alone, which drains on it; some service managers send it to every process.
"""

from __future__ import annotations

import signal

import manyhands_worker.child.process  # noqa: F401 - to have it loaded is the point
from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_worker.host.process_start import hide_key, restore_environment

hide_key()
restore_environment()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
die_with_parent()
