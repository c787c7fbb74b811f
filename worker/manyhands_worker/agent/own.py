"""``python -m manyhands_worker.agent.own``: the host agent of a root on a host without a node.

It relays what the root says and is told, starts no process, and ends with the root.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands_shared import shm
from manyhands_shared.errors import ExitCode, ManyhandsError
from manyhands_shared.logs import log_to_stderr
from manyhands_shared.processes.lifecycle import begin
from manyhands_shared.text import printable

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials


def main() -> int:
    """Serve until the root has ended. Returns the exit code."""
    begin()
    parser = argparse.ArgumentParser(prog="manyhands_worker.agent.own", description=__doc__)
    parser.add_argument("--agent-json", default="{}", help="the broker's address, and the key file")
    parser.add_argument("--parent-pid", type=int, help="who started it")
    parser.add_argument("--lifeline", type=int, help="leave when this descriptor is closed")
    parser.add_argument("--ready-fd", type=int, help="gets a line of JSON when it listens")
    options = parser.parse_args()
    given = json.loads(options.agent_json)

    from manyhands_worker.agent.agent import HostAgent  # noqa: PLC0415 - after `begin`
    from manyhands_worker.agent.config import AgentConfig  # noqa: PLC0415 - as above
    from manyhands_worker.agent.core.identity import AgentIdentity  # noqa: PLC0415 - as above
    from manyhands_worker.agent.start import listen  # noqa: PLC0415 - as above

    log_to_stderr("manyhands agent", "warning")
    try:
        listener, address = listen()
        if options.ready_fd is not None:
            with os.fdopen(options.ready_fd, "w", encoding="utf-8") as file:
                file.write(json.dumps({"address": address}) + "\n")
        identity = AgentIdentity(
            secrets.token_bytes(16),
            shm.host_id(),
            "",
            bytes(16),
            address,
            0,
            info={"pid": os.getpid()},
        )
        config = AgentConfig(identity, given["broker"], _key(given["key_file"]), options.lifeline)
        return HostAgent(config, listener, None).run()
    except ManyhandsError as error:
        print(f"manyhands agent: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"manyhands agent: cannot start: {error}", file=sys.stderr)
        return ExitCode.JOB_FAILED


def _key(key_file: str) -> Credentials | None:
    if not key_file:
        return None
    from manyhands_shared.security.role_key import credentials  # noqa: PLC0415 - 10 ms for a few agents

    return credentials(Path(key_file), "client")


if __name__ == "__main__":
    sys.exit(main())
