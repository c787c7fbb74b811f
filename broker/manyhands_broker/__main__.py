"""`python -m manyhands_broker`: a broker for an embedded cluster, its options as validated JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from manyhands_shared.processes.lifecycle import begin


def main() -> int:
    """Parse, serve, report readiness on ``--ready-fd``; returns an exit code."""
    begin()
    # Imported here: the monitor process re-imports this module and wants none of it.
    from manyhands_broker.server import run  # noqa: PLC0415
    from manyhands_shared.config import BrokerConfig  # noqa: PLC0415
    from manyhands_shared.logs import log_to_stderr  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m manyhands_broker", description=__doc__)
    parser.add_argument("--config-json", default="{}", help="fields of BrokerConfig")
    parser.add_argument("--parent-pid", type=int, help="leave when this is not the parent any more")
    parser.add_argument("--lifeline", type=int, help="descriptor; end of file says to leave")
    parser.add_argument("--ready-fd", type=int, help="descriptor for one JSON line once listening")
    parser.add_argument("--log-level", default="WARNING")
    arguments = parser.parse_args()
    log_to_stderr("manyhands broker", arguments.log_level)

    def ready(facts: dict[str, Any]) -> None:
        if arguments.ready_fd is not None:
            with os.fdopen(arguments.ready_fd, "w", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")

    return run(
        BrokerConfig(**json.loads(arguments.config_json)),
        ready=ready,
        parent_pid=arguments.parent_pid,
        lifeline=arguments.lifeline,
    )


if __name__ == "__main__":
    sys.exit(main())
