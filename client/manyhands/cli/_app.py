"""The table of verbs, and what holds for all of them: configuration file, exit code, one-line errors."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from manyhands.cli import _errors, _output, _verb
from manyhands.cli import _settings as settings
from manyhands_shared import PROTOCOL_VERSION, __version__
from manyhands_shared.errors import ConfigError

#: Each verb's module and its line in the overview, so that the overview imports none of them.
VERBS = {
    "up": ("up", "Run a cluster on this machine, in the foreground."),
    "broker": ("broker", "Run a broker."),
    "worker": ("worker", "Run a node: a pool of processes that works for a broker."),
    "run": ("run", "Run one function and print its result."),
    "exec": ("exec", "Run a program, once or for each of many inputs."),
    "map": ("map", "Run a function over the lines of a file."),
    "submit": ("submit", "Leave a job with the broker, and print its id."),
    "jobs": ("jobs", "List jobs."),
    "show": ("show", "Show all about a job."),
    "wait": ("wait", "Wait until jobs are over."),
    "top": ("top", "Show jobs, nodes and slots as they are now."),
    "watch": ("watch", "Show how far a job is until it is over."),
    "results": ("results", "Write the results of a job."),
    "logs": ("logs", "Print what a job's tasks printed."),
    "stack": ("stack", "Print the Python stacks of running tasks."),
    "profile": ("profile", "Say in which functions the tasks of a job are."),
    "export": ("export", "Write when the tasks of a job ran, for a trace viewer."),
    "why": ("why", "Say what a job or a process waits for."),
    "pause": ("pause", "Hold jobs back."),
    "resume": ("resume", "Go on with paused jobs."),
    "retry": ("retry", "Submit the failed tasks of a job again."),
    "forget": ("forget", "Delete jobs that are over."),
    "nodes": ("nodes", "List nodes."),
    "dashboard": ("dashboard", "Open the broker's dashboard in a browser."),
    "ps": ("ps", "List the processes of programs."),
    "drain": ("drain", "Have nodes finish what they run, and leave."),
    "backup": ("backup", "Copy the broker's journal while it is in use."),
    "cancel": ("cancel", "Cancel jobs."),
    "health": ("health", "Say whether a broker, or this host's node, serves."),
    "loadtest": ("loadtest", "Load a cluster, check every answer, and report."),
    "keys": ("keys", "Make keys, and say whose are let in."),
    "version": ("version", "Show versions."),
    "completion": ("completion", "Print a script for the shell's completion."),
}
#: Verbs that talk to a broker: table [client] of the configuration file is for all of them.
CLIENT_VERBS = (
    *("exec", "run", "map", "submit", "jobs", "show", "wait", "watch", "results", "logs"),
    *("stack", "profile", "export", "why", "pause", "resume", "retry", "forget", "nodes", "ps"),
    *("drain", "backup", "cancel", "top", "dashboard", "health", "loadtest"),
)

_EXAMPLES = (
    ("a cluster on this machine; Ctrl-C ends it", "manyhands up"),
    (
        "one call; without a broker it starts a cluster of its own",
        "manyhands run math:factorial 20",
    ),
    (
        "a function over the lines of a file",
        "manyhands map mod:func --input in.jsonl --output out.jsonl",
    ),
    (
        "a job that is left with the broker",
        "job=$(manyhands submit mod:func --input in.jsonl); manyhands wait $job",
    ),
    ("a broker, and nodes wherever you like", "manyhands broker"),
    ("", "manyhands worker --broker tcp://HOST:7711"),
)
_EPILOG = (
    "Every option can be set in the environment as MANYHANDS_<COMMAND>_<OPTION>. A TOML file with one "
    "table for each command sets them too ($MANYHANDS_CONFIG, else ./manyhands.toml, else "
    "~/.config/manyhands/manyhands.toml). MANYHANDS_BROKER, MANYHANDS_KEY_FILE and "
    "MANYHANDS_CONNECT_TIMEOUT serve all commands."
)


# ruff: noqa: ARG002 - the signatures of the methods below are click's
class _Verbs(_verb.VerbGroup):
    """A group whose commands are imported when they are called."""

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _errors.reader_gone():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _errors.reader_gone():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(
            f"manyhands.cli.{VERBS[cmd_name][0]}"
        ).command
        return command

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _verb.write_help(formatter, self.help or "", _EXAMPLES)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name is not None and not ctx.resilient_parsing:
            ctx.default_map = _defaults(ctx, name, command)
        return name, command, rest


@click.group(
    cls=_Verbs,
    epilog=_EPILOG,
    context_settings={
        "auto_envvar_prefix": "MANYHANDS",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, message=f"manyhands %(version)s, protocol {PROTOCOL_VERSION}")
@click.option("--config", metavar="FILE", help="Configuration file instead of the usual places.")
def app(config: str | None) -> None:
    """multiprocessing for many machines: a broker, worker nodes, and jobs for them."""


def run(arguments: list[str]) -> int:
    """Run the command; returns its exit code. Nothing is raised."""
    # The limit guards servers against long numbers of strangers. Here they are the user's own.
    sys.set_int_max_str_digits(0)
    if "_MANYHANDS_COMPLETE" in os.environ:
        from manyhands.cli import _completing  # noqa: PLC0415 - for a shell that completes alone

        _completing.know_colons()
    try:
        code = app.main(args=arguments, prog_name="manyhands", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the last line of defence against a traceback
        return _errors.report(error)
    return int(code or 0)


def _defaults(ctx: click.Context, name: str, command: click.Command) -> dict[str, Any]:
    """What the configuration file sets for the verb `name`, checked against its options."""
    named = ctx.params.get("config")
    environ = {**os.environ, "MANYHANDS_CONFIG": named} if named else os.environ
    place, tables = settings.load_file(environ)
    for table, content in tables.items():
        if table not in VERBS and table != "client":
            raise ConfigError(
                f"the configuration file has a table [{table}], which is no command; "
                f"there are: client, {', '.join(VERBS)}"
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{table!r} in the configuration file must be a table: [{table}]")
    shared = tables.get("client", {}) if name in CLIENT_VERBS else {}
    known = {parameter.name for parameter in command.params}
    for key in tables.get(name, {}):
        if key.replace("-", "_") not in known and not isinstance(command, click.Group):
            raise ConfigError(
                f"unknown option {key!r} in table [{name}] of the configuration file; "
                f"see: manyhands {name} --help"
            )
    values = {**shared, **tables.get(name, {})}
    if values and place is settings.HERE:
        # It was found, not named: a directory of another's making must not set a broker unseen.
        told = ", ".join(f"{key} = {value!r}" for key, value in values.items())
        _output.note(f"{place} of this directory sets {told}")
    return {name: {key.replace("-", "_"): value for key, value in values.items()}}
