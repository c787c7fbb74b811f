"""The coordinator put together: its limits, its log, and where that is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from manyhands_broker.coordination_driver import CoordinationDriver
from manyhands_broker.core import Core
from manyhands_broker.write_ahead_log import NoLog, WriteAheadLog
from manyhands_shared.clock import monotonic
from manyhands_shared.config import BrokerConfig
from manyhands_shared.transport import address

if TYPE_CHECKING:
    from manyhands_broker.coordination.coordinator import Coordinator


@contextlib.contextmanager
def beside(
    core: Core, config: BrokerConfig, broker_id: bytes, bound: list[str]
) -> Iterator[CoordinationDriver]:
    """Yield what drives a coordinator beside the scheduler `core`, until the broker ends.

    Args:
        core: whose nodes and queries it shares.
        config: validated options.
        broker_id: new with each start.
        bound: the addresses where the broker listens.

    Raises:
        ConfigError: the log is another broker's, or of another version.
    """
    directory = _directory(config, bound)
    record_log = NoLog() if directory is None else WriteAheadLog(directory, monotonic)
    driver = CoordinationDriver(
        lambda: _coordinator(core, config, broker_id), record_log, core.breakdowns
    )
    core.attach(driver)
    try:
        yield driver
    finally:
        record_log.close()


def _coordinator(core: Core, config: BrokerConfig, broker_id: bytes) -> Coordinator:
    # 20 ms that a broker without programs of several processes does without.
    from manyhands_broker.coordination.coordinator import Coordinator  # noqa: PLC0415
    from manyhands_broker.coordination.limits import CoordinationLimits  # noqa: PLC0415

    now = monotonic()
    return Coordinator(
        CoordinationLimits(
            lease=config.lease,
            session_grace=config.session_grace,
            coordination_bytes=config.coordination_bytes or _quarter_of_memory(),
        ),
        broker_id,
        core.state.fleet,
        now,
        failed=core.breakdowns.of,
        epoch=time.time() - now,
    )


def _directory(config: BrokerConfig, bound: list[str]) -> Path | None:
    """Return where the log is: as told, with the journal, or with the user's files of this session."""
    if config.coordination_dir:
        return Path(config.coordination_dir)
    if config.journal:
        return Path(config.journal) / "coordination"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    port = next((urlsplit(one).port for one in bound if not address.is_unix(one)), None)
    return Path(runtime) / "manyhands" / str(port) if runtime and port else None


def _quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
