"""``python -m manyhands_worker``: a node started by another process, with checked options."""

from __future__ import annotations

import argparse
import sys

from manyhands_shared.processes.lifecycle import begin
from manyhands_shared.processes.resource_tracker import use_tracker


def main() -> int:
    """Run a node as the command line says. Returns the exit code."""
    begin()
    parser = argparse.ArgumentParser(prog="manyhands_worker", description="Run a manyhands node.")
    parser.add_argument("--config-json", default="{}", help="the fields of WorkerConfig")
    parser.add_argument("--parent-pid", type=int, help="leave when this is not the parent any more")
    parser.add_argument("--tracker-fd", type=int, help="leads to the parent's resource tracker")
    parser.add_argument("--lifeline", type=int, help="leave when this descriptor is closed")
    parser.add_argument("--log-level", default="WARNING", help="DEBUG, INFO, WARNING or ERROR")
    options = parser.parse_args()

    # The fork server starts first, beside the imports that follow.
    import json  # noqa: PLC0415

    from manyhands_worker.host.process_start import start_fork_server  # noqa: PLC0415

    if options.tracker_fd is not None:
        use_tracker(options.tracker_fd)
    try:
        fields = json.loads(options.config_json)
        start_fork_server(str(fields.get("key_file", "")))
    except (ValueError, AttributeError) as error:
        parser.error(f"--config-json: {error}")
    from manyhands_shared.config import WorkerConfig  # noqa: PLC0415
    from manyhands_shared.logs import log_to_stderr  # noqa: PLC0415
    from manyhands_worker.node import run  # noqa: PLC0415

    log_to_stderr("manyhands worker", options.log_level)
    try:
        config = WorkerConfig(**fields)
    except TypeError as error:
        parser.error(f"--config-json: {error}")
    return run(config, parent_pid=options.parent_pid, lifeline=options.lifeline)


if __name__ == "__main__":
    sys.exit(main())
