"""``python -m manyhands._local.embedded_main``: one process that is a broker and its only node.

For a cluster of one machine, whose parts need not outlive each other.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from manyhands_shared.processes.lifecycle import begin
from manyhands_shared.processes.resource_tracker import use_tracker


def main() -> int:
    """Serve until the node is drained or told to leave. Returns the exit code."""
    begin()
    parser = argparse.ArgumentParser(prog="manyhands._local.embedded_main", description=__doc__)
    parser.add_argument("--broker-json", default="{}", help="the fields of BrokerConfig")
    parser.add_argument("--worker-json", default="{}", help="the fields of WorkerConfig")
    parser.add_argument("--parent-pid", type=int, help="leave when this is not the parent any more")
    parser.add_argument("--tracker-fd", type=int, help="leads to the parent's resource tracker")
    parser.add_argument("--lifeline", type=int, help="leave when this descriptor is closed")
    parser.add_argument("--ready-fd", type=int, help="gets a line of JSON when the broker listens")
    options = parser.parse_args()

    # The fork server starts first, beside the imports that follow.
    from manyhands_worker.host.process_start import start_fork_server  # noqa: PLC0415

    if options.tracker_fd is not None:
        use_tracker(options.tracker_fd)
    import json  # noqa: PLC0415

    node_options = json.loads(options.worker_json)
    start_fork_server(agent=bool(node_options.get("agent_at_start")))
    import logging  # noqa: PLC0415
    import os  # noqa: PLC0415

    from manyhands_broker.server import run  # noqa: PLC0415
    from manyhands_shared.config import BrokerConfig, WorkerConfig  # noqa: PLC0415
    from manyhands_shared.errors import ExitCode  # noqa: PLC0415
    from manyhands_shared.logs import log_to_stderr  # noqa: PLC0415
    from manyhands_shared.sd_notify import Notifier  # noqa: PLC0415
    from manyhands_worker.node import Node  # noqa: PLC0415

    log_to_stderr("manyhands", "warning")
    worker = WorkerConfig(**node_options)
    # What the only node reports to its broker, it has logged itself, on the same stderr.
    report = f"node {worker.name}: "
    logging.getLogger("manyhands.broker").addFilter(
        lambda record: not record.getMessage().startswith(report)
    )

    def ready(facts: dict[str, Any]) -> None:
        if options.ready_fd is not None:
            with os.fdopen(options.ready_fd, "w", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")

    broker = BrokerConfig(**json.loads(options.broker_json))
    node = partial(Node, worker, Notifier(), options.parent_pid, options.lifeline)
    try:
        return run(broker, ready=ready, make_node=node)
    except OSError as error:
        print(f"manyhands: cannot start: {error}", file=sys.stderr)
        return ExitCode.JOB_FAILED


if __name__ == "__main__":
    sys.exit(main())
