"""`Client`: the session itself, for library authors and the command."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self, Unpack

from manyhands import _html as html
from manyhands._code.surroundings import AskedOptions, code_of
from manyhands._io.connection import MAX_PENDING, Connection
from manyhands._io.io_thread import CONNECT_SECONDS
from manyhands._submit import arguments, functions
from manyhands._values.store import Ref
from manyhands.job import AttachedJob, DurableJob, Job, submit_durable
from manyhands.options import TaskOptions, job_options
from manyhands_shared.errors import ClusterClosed, ManyhandsError, NotAuthorised, Refused
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.messages import Function
from manyhands_shared.text import amount
from manyhands_shared.transport.address import DEFAULT_BIND

_QUERY_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Client:
    """Keep a session with a broker: submit array jobs, ask questions, cancel by id.

    Args:
        address: the broker, as ``tcp://host:port``; else ``$MANYHANDS_BROKER``; else this machine's.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.
        name: shown beside the session's jobs.
        limit: how many of its tasks run at once; 0 is no limit.
        max_pending: unfinished tasks in this process before `submit_job` waits.
        connect_timeout: seconds to wait for the broker; `None` is two where nothing listens, else ten.

    Raises:
        ConfigError: an option that cannot be used.
        BrokerUnreachable: no broker answers.
        NotAuthorised, Refused: the broker does not let this client in.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        key_file: str | os.PathLike[str] | None = None,
        name: str = "",
        limit: int = 0,
        max_pending: int = MAX_PENDING,
        connect_timeout: float | None = CONNECT_SECONDS,
    ) -> None:
        self._connection = Connection(
            address,
            key_file,
            default=DEFAULT_BIND,
            name=name,
            limit=limit,
            max_pending=max_pending,
            connect_timeout=connect_timeout,
        )
        self._io = self._connection.io
        error = ClusterClosed("the client was closed")
        self._drop = weakref.finalize(self, self._connection.abort, error, wait=False)
        self._drop.atexit = False  # the connection sees to the interpreter's exit itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.address}>"

    def _repr_html_(self) -> str:
        """Show the cluster in figures, in a notebook."""
        rows: list[tuple[str, object]] = [("broker", self.address)]
        try:
            found = self._io.ask("health", {}).result(html.ANSWER_SECONDS)
        except (ManyhandsError, TimeoutError) as error:
            return html.card("manyhands client", [*rows, ("state", error or "no answer")])
        rows += [(name, found[name]) for name in ("slots", "running", "queued")]
        nodes = ", ".join(f"{count} {state}" for state, count in found["nodes"].items() if count)
        rows.append(("nodes", nodes or "none; start one with: manyhands worker"))
        rows += [("problem", problem) for problem in found["problems"]]
        return html.card("manyhands client", rows)

    @property
    def address(self) -> str:
        """Return the broker's address."""
        return self._io.address

    def submit_job(
        self,
        function: Callable[..., Any],
        args_list: Iterable[tuple[Any, ...]],
        *,
        name: str = "",
        **options: Unpack[TaskOptions],
    ) -> Job:
        """Submit one job with a task ``function(*args)`` for each `args` in `args_list`.

        With `durable=True` it returns when the broker's journal has the job. The job then needs this
        client no more, and `attach` finds it again by its id. Without, the job ends with this client.

        Args:
            function: called once for each task.
            args_list: the positional arguments of each task.
            name: shown in lists of jobs; by default the function's name.
            options: as `TaskOptions` lists them.

        Raises:
            ConfigError: an option that cannot be used.
            SubmitError: the function or some arguments cannot be sent; the job is cancelled.
            SubmitRejected: the broker does not take a durable job, for the reason given.
        """
        checked = job_options(name or functions.describe(function), **options)
        if checked.durable:
            packed, asked, pack = self._prepare(function, checked)
            payloads = (pack(tuple(args), {}) for args in args_list)
            job = submit_durable(self._io, packed, asked, payloads)
            job.refresh()
            return job
        attached, add = self._open_job(function, checked)
        try:
            for args in args_list:
                add(tuple(args))
        except BaseException:
            attached.cancel()
            raise
        attached.close()
        return attached

    def _open_job(
        self, function: Callable[..., Any], options: AskedOptions
    ) -> tuple[AttachedJob, Callable[[tuple[Any, ...]], None]]:
        """Open a job that tasks can be added to, and return what adds one."""
        packed, asked, pack = self._prepare(function, options)
        job = AttachedJob(self._io, packed, asked)
        return job, lambda args: job.add(pack(args, {}))

    def _prepare(
        self, function: Callable[..., Any], options: AskedOptions
    ) -> tuple[Function, dict[str, Any], Callable[..., Payload]]:
        """The function and the options as they travel, and what packs arguments."""
        if options.safe:
            packed = functions.pack_safe(function)
        else:
            packed = functions.pack(function, store=None if options.durable else self._io.store)
        asked = {**options.to_map(), **functions.demands(function, options=options)}
        code = None if options.safe else code_of(options.wanted).renew()
        if code is not None:
            asked["bundle"] = code
        return packed, asked, arguments.packer(options, self._io.store)

    def scatter(self, value: Any) -> Ref:
        """Keep a value here for tasks that take it as an argument: each node gets it once.

        The client keeps it as it is now, as long as the `Ref` or a task with the `Ref` is there. In a
        durable job, which may outlive this client, the value itself travels with each task.

        Raises:
            SubmitError: the value cannot be pickled, or there is no memory for it.
        """
        return self._io.store.scatter(value)

    def job(self, job_id: str) -> Job:
        """Return a job of any client by its id, for questions and orders; results need `attach`."""
        return DurableJob(self._io, job_id)

    def attach(self, job_id: str, *, trust: bool = False) -> Job:
        """Return the durable job `job_id`, of this client or an earlier one.

        In one client only one `Job` for each id gets results at a time: the one that asked last.

        Args:
            job_id: the job's id.
            trust: load every result of a job that the owner of another key submitted. An admin may
                read such a job, but loading runs the code that its owner put there. Without `trust`
                the client loads results of built-in types, and the others are `ResultWithheld`.

        Raises:
            Refused: the broker knows no such job, or it is not durable.
            NotAuthorised: the job is not yours, and your key is not an admin's.
        """
        job = DurableJob(self._io, job_id, trust=trust)
        info = job.refresh()
        if not info.get("mine", True):
            raise NotAuthorised(
                f"job {job_id} is of {info['owner']}: its results take that key, or an admin's"
            )
        if not info["durable"]:
            raise Refused(
                "query",
                f"job {job_id} is not durable: only the client that submitted it has results",
            )
        return job

    def wait_for_nodes(self, count: int = 1, timeout: float | None = 30.0) -> None:
        """Wait until the broker has `count` nodes, `timeout` seconds at most.

        Raises:
            TimeoutError: it has fewer; the text says how many.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = threading.Event()
        while (there := len(self.query("nodes"))) < count:
            left = _POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"{there} of {amount(count, 'node')} joined the broker at {self.address} "
                    f"within {timeout:g} s; start more with `manyhands worker`"
                )
            pause.wait(min(_POLL_SECONDS, left))

    def query(self, what: str, **parameters: Any) -> Any:
        """Ask the broker: ``jobs``, ``job`` (with `id`), ``nodes``, ``stats``, ``events``.

        `Job` has methods for what can be asked of one job.

        Returns:
            Plain values: lists, maps, texts, numbers.

        Raises:
            Refused: the broker cannot answer; the text says why.
            TimeoutError: no answer within half a minute.
        """
        return self._io.ask(what, parameters).result(_QUERY_SECONDS)

    def cancel(self, job_id: str) -> None:
        """Cancel a job of any session, and wait until the broker confirms it.

        Nothing happens if there is no such job, or if it is over. Nor does it if the job is another
        key's and yours is not an admin's. In a callback this method does not wait.

        Raises:
            TimeoutError: no answer within half a minute: the job may or may not be cancelled.
        """
        if self._io.on_thread():
            self._io.call(self._io.registry.cancel_other, job_id)
            return
        try:
            self._io.ask("cancel", {"id": job_id}).result(_QUERY_SECONDS)
        except (Refused, NotAuthorised):
            return
        except TimeoutError as error:
            if is_from_handler(error):
                raise
            raise TimeoutError(
                f"the broker has not said within {_QUERY_SECONDS:.0f} s that job {job_id} is cancelled. "
                "Look at the job when the broker is back, and cancel it again if need be"
            ) from None

    def close(self) -> None:
        """End the session, and cancel its jobs that have not ended, durable ones excepted."""
        self._drop.detach()
        self._connection.abort(ClusterClosed("the client was closed"))

    def abort(self, error: BaseException) -> None:
        """End the session without waiting. What has not ended fails with `error`."""
        self._drop.detach()
        self._connection.abort(error, wait=False)
