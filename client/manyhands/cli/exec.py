"""`manyhands exec`: programs as tasks."""

from __future__ import annotations

from typing import Any

import click

from manyhands.cli._duration import TIME_LIMIT
from manyhands.cli._job_options import task_options
from manyhands.cli._options import client_options
from manyhands.cli._size import SIZE
from manyhands.cli._user_files import FILE
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="exec",
    context_settings={"allow_interspersed_args": False},
    examples=(
        ("a program for each file", "manyhands exec -- gzip -k {} ::: *.csv"),
        (
            "for each line of a file; {/.} is its name alone",
            "manyhands exec --input list.txt echo {/.}",
        ),
        (
            "every combination, in the order of the inputs",
            "manyhands exec -k echo {1}-{2} ::: a b ::: 1 2",
        ),
        ("a line of shell", "manyhands exec --shell 'sort {} | uniq -c > {.}.count' ::: *.txt"),
        (
            "begun anew where it was cut off, stopped at the first failure",
            "manyhands exec --joblog log --resume --halt soon,fail=1 ./prog {} ::: *.csv",
        ),
        (
            "an array that is left with the broker",
            "job=$(manyhands exec --detach --array 1-100 --stdout 'out/%t.txt' -- ./prog)",
        ),
    ),
)
@click.argument(
    "words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND... [::: INPUT...]..."
)
@click.option("--input", "source", metavar="FILE", help="A task for each line of it (- for stdin).")
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="With --input: each ends with a zero byte, as of find -print0.",
)
@click.option("--array", metavar="RANGE", help="A task for each number: 1-1000, 0-99:10, 1,5,7-9.")
@click.option(
    "--pipe",
    metavar="FILE",
    help="Cut it (- for stdin) into blocks of lines, each the input of a task.",
)
@click.option(
    "--block",
    type=SIZE,
    default=1 << 20,
    show_default="1M",
    help="With --pipe: the size of a block.",
)
@click.option(
    "--lines",
    type=click.IntRange(1),
    help="With --pipe: the lines of a block, instead of its size.",
)
@click.option(
    "--stdin",
    default="",
    metavar="FILE",
    help="Each task's standard input: data/%t.in, {}; else nothing.",
)
@click.option(
    "--stdout",
    default="",
    metavar="FILE",
    help="Where each task's output goes on its node: 'out/%t.txt'; else here.",
)
@click.option("--stderr", default="", metavar="FILE", help="The same for its errors.")
@click.option(
    "--cwd", metavar="DIRECTORY", help="Where tasks run, on each node.  [default: this directory]"
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable for the tasks, or one of here by its name; repeatable.",
)
@click.option("--shell", is_flag=True, help="The command is a line of shell; inputs are quoted.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 4_096),
    help="How many run at once; all slots there are if not given.",
)
@click.option("-k", "--keep-order", is_flag=True, help="Write outputs in the order of the inputs.")
@click.option(
    "--halt",
    metavar="WHEN",
    default="never",
    show_default=True,
    help="Stop early: soon,fail=1 (or 10%) starts no more, now,success=1 kills what runs.",
)
@click.option(
    "--joblog",
    type=FILE,
    help="A line for each task that has ended, as GNU parallel writes it.",
)
@click.option(
    "--resume",
    "old",
    flag_value="resume",
    help="Leave out the tasks of --joblog, and append to it.",
)
@click.option(
    "--resume-failed",
    "old",
    flag_value="resume-failed",
    help="The same, but run those again that failed.",
)
@click.option("--overwrite", "old", flag_value="overwrite", help="Replace what --joblog holds.")
@click.option("--dry-run", is_flag=True, help="Print the commands, and run none.")
@click.option("--detach", is_flag=True, help="Leave the job with the broker, and print its id.")
@click.option(
    "--timeout",
    type=TIME_LIMIT,
    help="Cancel all and give up after this time, with exit code 124. See --task-timeout.",
)
@task_options
@client_options("exec")
@click.option(
    "--json",
    is_flag=True,
    help="Print a JSON line for each program that has ended, with its outputs.",
)
def command(**given: Any) -> None:
    """Run a program on a cluster, once or for each of many inputs.

    Options come before the command. The command is run as it is, without a shell. In it {} stands for
    the input, and {2} for the second of several. {.} has no extension, {/} no directory, {/.} neither.
    {//} is the directory, {#} the task's number, {%} its slot. Without any of these the input comes
    last. In names of files %t is the number of the task or, of an array, its number there.

    What a program prints comes out whole when it has ended. Exit code 1 says that a program failed. It
    ended with another code than 0, died of a signal, took too long or could not be started. The
    variables MANYHANDS_TASK, MANYHANDS_SEQ, MANYHANDS_SLOT and MANYHANDS_INPUT say which task it is.

    Without an input, what is piped in has a task for each line; nothing piped in is one task.

    What a program leaves running when it ends is killed. Without --broker and MANYHANDS_BROKER a
    cluster on this machine does the work and ends with it.
    """
    from manyhands.cli._programs import running  # noqa: PLC0415 - so that --help is quick

    running.execute(**given)
