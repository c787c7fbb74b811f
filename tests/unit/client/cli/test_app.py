"""What holds for every verb: help, exit codes, one-line errors, where options come from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.command import COMMAND, document, fails, run
from manyhands.cli._app import CLIENT_VERBS, VERBS
from manyhands_shared import __version__


def test_the_overview_leads_with_examples_and_names_every_verb() -> None:
    out = run("--help").stdout
    assert out.index("Examples:") < out.index("Options:") < out.index("Commands:")
    assert all(f"\n  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "keys"])
def test_the_help_of_each_verb_leads_with_examples(verb: str) -> None:
    result = run(verb, "--help")
    assert result.returncode == 0
    out = result.stdout
    assert out.index("Examples:") < out.index("Options:")
    assert f"\n  manyhands {verb}" in out or f" manyhands {verb}" in out
    # The overview has its own line for each verb; both must speak of the same.
    summary = " ".join(out.split("\n\n")[1].split())
    assert summary.split()[0] == VERBS[verb][1].split()[0].rstrip(".")


@pytest.mark.parametrize("group", [(), ("keys",)])
def test_without_a_verb_it_shows_the_overview(group: tuple[str, ...]) -> None:
    result = run(*group)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == run(*group, "--help").stdout
    assert result.stderr.count("\n") > 10


def test_the_overview_imports_nothing_heavy() -> None:
    script = "import sys; from manyhands.cli._app import run; run(['--help']); print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    ).stdout
    loaded = set(out.splitlines()[-1].split())
    assert not loaded & {"pydantic", "rich", "numpy", "psutil", "zmq", "manyhands_broker"}


@pytest.mark.parametrize("arguments", [("version",), ("--help",), ("version", "--json")])
def test_a_full_device_is_no_fault_of_ours(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == "error: cannot write the output: No space left on device\n"


def test_version() -> None:
    assert run("--version").stdout.startswith(f"manyhands {__version__}, protocol 1")
    assert "cloudpickle" in run("version").stdout
    shown = document(run("version", "--json"))
    assert shown["manyhands"] == __version__
    assert shown["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see: manyhands --help"),
        (["nodes", "--frobnicate"], "see: manyhands nodes --help"),
        (["broker", "--lease", "soon"], "'soon' is no duration; write 30s"),
        (["broker", "--lease", "0"], "option 'lease'"),
        (["broker", "--bind", "udp://x"], "write tcp://HOST:PORT"),
        (["broker", "--bind", "0.0.0.0"], "manyhands keys new"),
        (["worker", "--slots", "-1"], "option 'slots'"),
        (["broker", "--key-file", "/nonexistent/key"], "manyhands keys new /nonexistent/key"),
        (["--config", "/nonexistent.toml", "version"], "is not there"),
    ],
)
def test_wrong_usage_is_exit_code_two_and_one_line(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert says in fails(result, 2)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


_ARGUMENTS = {
    "submit": ["math:sqrt", "4"],
    "retry": ["--failed", "4f0c"],
    "jobs": [],
    "drain": ["node-1"],
    "backup": ["/tmp/never-made"],
    "export": ["4f0c", "--chrome-trace", "/tmp/never-made"],
}


@pytest.mark.parametrize(
    "verb", [verb for verb in CLIENT_VERBS if verb not in ("exec", "run", "map")]
)
def test_no_broker_is_exit_code_three(verb: str) -> None:
    arguments = _ARGUMENTS.get(verb, ["4f0c"] if "JOB" in run(verb, "--help").stdout else [])
    result = run(verb, *arguments, "--broker", "tcp://127.0.0.1:1", "--connect-timeout", "0.3")
    assert "no broker answers at tcp://127.0.0.1:1" in fails(result, 3)


def test_no_colour_unless_on_a_terminal() -> None:
    assert "\x1b" not in run("frobnicate").stderr


# Where options come from. `--lease` is refused by its range, and the line shows which value won.


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "manyhands.toml"
    path.write_text("[broker]\nlease = -3\n[nodes]\nconnect-timeout = 0.25\n")
    return path


def test_a_file_sets_options(config: Path) -> None:
    for result in (
        run("--config", config, "broker"),
        run("broker", env={"MANYHANDS_CONFIG": str(config)}),
        run("broker", cwd=config.parent),
    ):
        assert "'-3' is no duration" in fails(result, 2)


def test_the_environment_comes_before_the_file(config: Path) -> None:
    assert "'-2' is no duration" in fails(
        run("--config", config, "broker", env={"MANYHANDS_BROKER_LEASE": "-2"}), 2
    )


def test_a_flag_comes_before_the_environment(config: Path) -> None:
    result = run(
        "--config", config, "broker", "--lease", "-1", env={"MANYHANDS_BROKER_LEASE": "-2"}
    )
    assert "'-1' is no duration" in fails(result, 2)


def test_the_variable_of_a_verb_comes_before_the_one_of_all() -> None:
    both = {"MANYHANDS_BROKER": "udp://all", "MANYHANDS_NODES_BROKER": "udp://nodes"}
    assert "udp://nodes" in fails(run("nodes", env=both), 2)
    assert "udp://all" in fails(run("jobs", env=both), 2)


def test_table_client_is_for_all_that_talk_to_a_broker(tmp_path: Path) -> None:
    (tmp_path / "manyhands.toml").write_text(
        '[client]\nbroker = "udp://client"\n[jobs]\nbroker = "udp://jobs"\n'
    )
    assert "udp://client" in fails(run("nodes", cwd=tmp_path), 2)
    assert "udp://jobs" in fails(run("jobs", cwd=tmp_path), 2)


def test_what_a_file_found_in_the_directory_sets_is_told(tmp_path: Path) -> None:
    file = tmp_path / "manyhands.toml"
    file.write_text('[client]\nbroker = "udp://evil"\nkey-file = "/x\\u001b[31m"\n')
    told, error = run("nodes", cwd=tmp_path).stderr.splitlines()
    assert told == (
        "manyhands.toml of this directory sets broker = 'udp://evil', key-file = '/x\\x1b[31m'"
    )
    assert "udp://evil" in error
    # A file that was named needs no telling, nor one whose settings the verb does not use.
    assert run("--config", file, "nodes").stderr.count("\n") == 1
    assert run("version", cwd=tmp_path).stderr == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[brocker]\nlease = 1", "[brocker], which is no command"),
        ("[broker]\nleese = 1", "unknown option 'leese'"),
        ("broker = 1", "must be a table: [broker]"),
        ("lease = ", "cannot read the configuration file"),
        ('[broker]\nlease = "soon"', "'soon' is no duration; write 30s"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "manyhands.toml").write_text(text)
    assert says in fails(run("broker", cwd=tmp_path), 2)


# Without click, or without what a role needs.


def _without(*packages: str, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys\n"
        f"for name in {packages!r}: sys.modules[name] = None\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "from manyhands.cli import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )


def test_a_plain_client_has_no_command_and_says_so() -> None:
    result = _without("click", arguments=("nodes",))
    assert "pip install 'manyhands[command]'" in fails(result, 1)


def test_a_missing_extra_is_named() -> None:
    result = _without("pydantic", arguments=("broker", "--lease", "20s"))
    assert "pip install 'manyhands[command]'" in fails(result, 2)


# Completion.


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    result = run("completion", shell)
    assert result.returncode == 0
    assert "_MANYHANDS_COMPLETE" in result.stdout
    assert result.stderr == ""


def test_verbs_and_options_complete() -> None:
    def complete(words: str, number: int) -> str:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(number)}
        return run(env={"_MANYHANDS_COMPLETE": "bash_complete", **variables}).stdout

    assert "plain,nodes" in complete("manyhands no", 1)
    assert "--connect-timeout" in complete("manyhands nodes --con", 2)
