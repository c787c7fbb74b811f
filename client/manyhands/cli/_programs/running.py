"""From the options of `manyhands exec` to programs that run, and what is told of them."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from manyhands.cli import _lines, _output, _user_files
from manyhands.cli._early_start import begin_cluster
from manyhands.cli._errors import JobFailed
from manyhands.cli._job_options import split, variable
from manyhands.cli._programs import joblog, sources
from manyhands.cli._programs.halting import Halting
from manyhands.cli._programs.sources import Item
from manyhands.cli._reader import LineReader, check_streams, is_same_file
from manyhands_shared.errors import ConfigError, ManyhandsError
from manyhands_shared.processes import thread_start
from manyhands_shared.programs import task, template
from manyhands_shared.programs.program import Program
from manyhands_shared.programs.template import Values
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from manyhands import Client, Job
    from manyhands.cli._programs.report import Report
    from manyhands.cli._stream import Stream

#: What may be out at once of the blocks of a pipe.
_PIPE_BYTES = 64 << 20
_LEAST_WINDOW = 64
#: Between two looks at a job that is to begin no more tasks.
_LOOK_SECONDS = 0.05


def execute(*, words: tuple[str, ...], **given: Any) -> None:
    """Run `manyhands exec`."""
    detach, dry_run, json = (given.pop(name) for name in ("detach", "dry_run", "json"))
    if detach:
        _refuse_with_detach(given)
    halting = Halting.parse(given.pop("halt"))
    log, old = given.pop("joblog"), given.pop("old")
    if old and log is None:
        _wrong(f"--{old} needs --joblog FILE")
    command, groups, files = sources.split(words)
    if not command:
        _wrong("there is no command before the inputs")
    if not (" ".join(command).strip() if given["shell"] else command[0]):
        _wrong("the command is empty")
    keep_order, jobs, timeout = (given.pop(name) for name in ("keep_order", "jobs", "timeout"))
    with contextlib.ExitStack() as stack:
        tasks = _Tasks(command, groups, files, given, stack)
        program = _program(tasks, given)
        name = given.pop("name") or Path(command[0]).name[:100]
        if dry_run:
            _show(program, tasks.items, json=json)
            return
        chosen, connection = split(given)
        if detach:
            _detach(program, tasks, name, chosen, connection, json=json)
            return
        if halting.percent:
            halting.count_of(tasks.count())
        tasks.check_is_not_read(log)
        done = _done(log, old)
        _check_is_no_output(log, program)
        items = _left(tasks.items, program, done, log)
        begun = begin_cluster(connection["broker"], jobs)
        if begun is not None:
            stack.callback(begun.close)
        # What follows takes 80 ms, in which the cluster starts.
        from manyhands.cli import _connect, _job  # noqa: PLC0415
        from manyhands.cli._programs.report import Report  # noqa: PLC0415
        from manyhands.cli._stream import WINDOW, Stream  # noqa: PLC0415

        stack.enter_context(_job.ended_by_signals())
        stack.enter_context(_job.time_limit(timeout))
        client = stack.enter_context(
            _connect.client(embed=True, begun=begun, slots=jobs, limit=jobs or 0, **connection)
        )
        file = log and stack.enter_context(joblog.open_log(log, done))
        report = Report(program, file, keep_order=keep_order, json=json)
        text = program.encode()

        def arguments(item: Item) -> tuple[Any, ...]:
            report.expect(item.number)
            return text, item.number, item.task, item.data, *item.inputs

        stream = Stream(
            client,
            task.run,
            items,
            arguments,
            stop=tasks.stop,
            window=tasks.window or WINDOW,
            name=name,
            echo=False,  # outputs come with the results
            **chosen,
        )
        _follow(client, stream, report, halting)
    if not stream.submitted and not tasks.is_single:
        _output.note("no inputs, nothing to do" if done is None else "nothing is left to do")
    if report.failed:
        raise JobFailed(
            f"{report.failed:,} of {amount(report.ended, 'program')} failed; {report.first_failure}"
        )


def _show(program: Program, items: Iterator[Item], *, json: bool) -> None:
    """Print what would run, a line for each task."""
    for item in items:
        command = program.command(Values(item.number, item.task, item.inputs))
        if json:
            told = {"seq": item.number, "task": item.task, "inputs": item.inputs}
            _lines.write_line(sys.stdout, {**told, "command": command})
        else:
            _output.raw(command)


class _Tasks:
    """The tasks to run, one after the other, from whichever source was named."""

    def __init__(
        self,
        command: list[str],
        groups: list[list[Any]],
        files: list[str],
        given: dict[str, Any],
        stack: contextlib.ExitStack,
    ) -> None:
        source, null, array = (given.pop(name) for name in ("source", "null", "array"))
        pipe, block, lines = (given.pop(name) for name in ("pipe", "block", "lines"))
        if source is None and pipe is None and array is None and not groups and _is_fed():
            # As GNU parallel: what comes through a pipe are the inputs.
            source = "-"
        self._is_piped = pipe is not None
        #: Names of the files that are read; ``-`` is stdin.
        self._read = [*files, *(name for name in (source, pipe) if name is not None)]
        for name in self._read:
            check_streams(name)
        named = [
            name for name, value in (("--array", array), ("--pipe", pipe)) if value is not None
        ]
        others = [name for name, value in (("--input", source), (":::", groups)) if value]
        if len(named) > 1 or (named and others):
            _wrong(
                f"{' and '.join([*named, *others])} each say what the tasks are; give one of them"
            )
        if null and source is None:
            _wrong("--null is for --input")
        if lines and pipe is None:
            _wrong("--lines is for --pipe")
        self._reader: LineReader | None = None
        #: Tasks that are out at once; 0: as many as a stream has.
        self.window = 0
        self.is_single = False
        self.words = command
        if source is not None or pipe is not None:
            end = b"\0" if null else b"\n"
            self._reader = stack.enter_context(LineReader(source if pipe is None else pipe, end))
        if array is not None:
            self.items = sources.numbered(((text,) for text in sources.array(array)), is_array=True)
        elif pipe is not None and self._reader is not None:
            blocks = sources.blocks(self._reader, block, lines or 0)
            self.items = (
                Item(number, str(number), (), data) for number, data in enumerate(blocks, 1)
            )
            if not lines:
                self.window = max(_LEAST_WINDOW, _PIPE_BYTES // block)
        else:
            if self._reader is not None:
                groups = [[sources.lines(self._reader)], *groups]
            self.is_single = not groups
            self.items = sources.numbered(sources.combined(groups) if groups else iter([()]))
        self._check(groups, array is not None)

    def _check(self, groups: list[list[Any]], is_array: bool) -> None:
        if groups and not template.has_replacement(self.words):
            self.words = [*self.words, "{}"]
        count = sum(map(len, groups)) or int(is_array)
        highest = template.highest_input(self.words)
        if highest > count:
            _wrong(f"{{{highest}}} is in the command, and there are {count} sources of inputs")

    def count(self) -> int:
        """How many there are: all are read now, and kept."""
        if self._is_piped:
            _wrong("--halt counts tasks for a share of them: give a number with --pipe, not %")
        known = list(self.items)
        self.items = iter(known)
        return len(known)

    def check_is_not_read(self, log: Path | None) -> None:
        """Refuse a log that is the input: to write it would destroy that."""
        if log is not None and any(is_same_file(name, str(log)) for name in self._read):
            raise ConfigError(f"{log} is the input; name another file for --joblog")

    def stop(self) -> None:
        """Read no more of them."""
        if self._reader is not None:
            self._reader.stop()


def _is_fed() -> bool:
    """Whether stdin is a pipe or a file, rather than a terminal, /dev/null or nothing."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _program(tasks: _Tasks, given: dict[str, Any]) -> Program:
    files = {name: given.pop(name) for name in ("stdin", "stdout", "stderr")}
    for name in ("stdout", "stderr"):
        path = files[name]
        if path and not tasks.is_single and not template.tells_apart(path) and path != os.devnull:
            _wrong(
                f"--{name} {path} is one file for all tasks; put %t in its name, as in out/%t.txt"
            )
        if path and path == files["stdin"] and path != os.devnull:
            _wrong(f"--{name} {path} is what --stdin reads; name another file")
    directory = given.pop("cwd")
    variables = dict(map(variable, given.pop("variables")))
    return Program(
        tuple(tasks.words),
        given.pop("shell"),
        _here() if directory is None else directory,
        variables,
        **files,
    )


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise ConfigError(
            "the working directory was removed; change to another, or name one by --cwd"
        ) from None


def _check_is_no_output(log: Path | None, program: Program) -> None:
    """Refuse a log that is the output of the only task, which would replace it."""
    if log is None or (log.exists() and not log.is_file()):
        return
    for name, path in (("stdout", program.stdout), ("stderr", program.stderr)):
        if path and os.path.realpath(Path(program.directory) / path) == os.path.realpath(log):
            raise ConfigError(f"{log} is what --{name} writes; name another file for --joblog")


def _done(log: Path | None, old: str | None) -> joblog.Done | None:
    """What a log says is done; None begins a new one."""
    if log is None:
        return None
    _user_files.check_writable(log)
    if old in ("resume", "resume-failed"):
        _user_files.check_has_end(log)
        return joblog.read(log, failed_again=old == "resume-failed")
    if old is None and log.is_file() and log.stat().st_size:
        raise ConfigError(
            f"{log} is not empty; go on with it by --resume, replace it by --overwrite, or name "
            "another file"
        )
    return None


def _left(
    items: Iterator[Item], program: Program, done: joblog.Done | None, log: Path | None
) -> Iterator[Item]:
    """The items that a log does not have.

    Raises:
        ConfigError: the log is of other commands.
    """
    if done is None:
        yield from items
        return
    comparable = not template.has_slot(program.words)
    for item in items:
        logged = done.commands.get(item.number)
        if logged is not None and comparable:
            here = program.command(Values(item.number, item.task, item.inputs))
            if not joblog.same_command(logged, here):
                raise ConfigError(
                    f"task {item.number} of {log} was {logged!r:.200} and is {here!r:.200} here; "
                    "name the log of this command and input, or begin anew with --overwrite"
                )
        if item.number not in done:
            yield item


def _detach(
    program: Program,
    tasks: _Tasks,
    name: str,
    chosen: dict[str, Any],
    connection: dict[str, Any],
    *,
    json: bool,
) -> None:
    from manyhands.cli import _connect, _named  # noqa: PLC0415 - see `execute`

    text = program.encode()
    calls = ((text, item.number, item.task, item.data, *item.inputs) for item in tasks.items)
    with _connect.client(**connection) as client:
        job = client.submit_job(task.run, calls, name=name, durable=True, **chosen)
        is_lasting = _named.note_durability(client)
    if json:
        _output.document(job=job.id, tasks=job.tasks, journal=is_lasting)
    else:
        _output.say(job.id)


def _follow(client: Client, stream: Stream[Item], report: Report, halting: Halting) -> None:
    from manyhands.cli._programs.ending import ending_of  # noqa: PLC0415 - see `execute`

    for item, value in stream:
        ending = ending_of(value)
        for _ in range(report.take(item, ending)):
            stream.done()
        if halting.counts(ending):
            stream.stop()
            if halting.now:
                stream.job.cancel()
            else:
                waiter = threading.Thread(
                    target=_let_run_out,
                    args=(client, stream.job),
                    name="manyhands-halt",
                    daemon=True,
                )
                if not thread_start.start(waiter):
                    _let_run_out(client, stream.job)


def _let_run_out(client: Client, job: Job) -> None:
    """Start nothing more of a job; cancel what waits as soon as nothing of it runs."""
    pause = threading.Event()
    with contextlib.suppress(ManyhandsError, TimeoutError):
        client.query("pause", id=job.id)
        while client.query("job", id=job.id)["active"]:
            pause.wait(_LOOK_SECONDS)
    job.cancel()


def _refuse_with_detach(given: dict[str, Any]) -> None:
    """Refuse what a job that is left with the broker would ignore."""
    ignored = {
        "keep_order": False,
        "joblog": None,
        "old": None,
        "jobs": None,
        "timeout": None,
        "halt": "never",
    }
    for name, usual in ignored.items():
        if given[name] != usual:
            flag = given[name] if name == "old" else name.replace("_", "-")
            _wrong(f"--{flag} is for a run that is waited for, not with --detach")


def _wrong(text: str) -> NoReturn:
    raise click.UsageError(text, click.get_current_context())
