"""The process of a node's host agent, forked from the node's fork server."""

from __future__ import annotations

import multiprocessing
import os
import socket

from manyhands_shared.logs import log_to_stderr
from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_worker.agent.config import AgentConfig
from manyhands_worker.host.process_start import restore_environment, starting
from manyhands_worker.host.processes import (
    BaseProcess,
    lead_group,
    let_fork_server_go,
    node_is_gone,
)


class AgentProcess(BaseProcess):
    """It ends with the node, and members end with it.

    Args:
        config: what the agent is.
        listener: where roots connect.
    """

    def __init__(self, config: AgentConfig, listener: socket.socket) -> None:
        super().__init__(name="manyhands-agent")
        self._agent_config = config
        self._listener = listener

    @classmethod
    def launch(cls, config: AgentConfig, listener: socket.socket) -> AgentProcess:
        """Start one.

        Raises:
            OSError, EOFError: the system does not give a process.
        """
        process = cls(config, listener)
        with starting():
            process.start()
        return process

    def run(self) -> None:
        """Serve until the node has it leave, or is gone."""
        # The node, which starts it, does without these.
        from manyhands_worker.agent.agent import HostAgent  # noqa: PLC0415 - 45 ms
        from manyhands_worker.agent.members import Members  # noqa: PLC0415 - as said above

        restore_environment()
        multiprocessing.set_start_method(None, force=True)
        lead_group()
        die_with_parent()
        let_fork_server_go()
        if node_is_gone():
            os._exit(0)
        log_to_stderr("manyhands agent", "warning")
        # Before anything is opened that a member should not have.
        members = Members(frozenset({self._listener.fileno()}))
        raise SystemExit(HostAgent(self._agent_config, self._listener, members).run())
