"""`manyhands keys`: make keys, and say whose are let in."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import click

from manyhands.cli import _output
from manyhands.cli._options import json_option
from manyhands.cli._user_files import FILE
from manyhands.cli._verb import Verb, VerbGroup
from manyhands_shared.errors import ConfigError
from manyhands_shared.security import allow_list
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import PARTS, ClusterKey
from manyhands_shared.security.role_key import (
    ROLES,
    RoleKey,
    check_public,
    check_role,
    load,
    to_hex,
)

_PATH = FILE
_FILE = click.argument("file", envvar="MANYHANDS_KEY_FILE", type=_PATH)
_CLUSTER = click.option(
    "--cluster",
    metavar="FILE",
    type=_PATH,
    envvar=["MANYHANDS_BROKER_KEY_FILE", "MANYHANDS_KEY_FILE"],
    help="The broker's cluster key; its allow-list is beside it.",
)
_LIST = click.option(
    "--allow-file",
    metavar="FILE",
    type=_PATH,
    envvar="MANYHANDS_BROKER_ALLOW_FILE",
    help="The broker's allow-list, if it is elsewhere.",
)
_ROLE = click.option("--role", type=click.Choice(ROLES), help="What the key is for.")


@click.group(cls=VerbGroup, name="keys")
def command() -> None:
    """Make keys, and say whose are let in.

    One cluster key on every host is enough, and its holder may do everything. Better keep it on the
    broker's host, and give each person and machine a key of a role. A client submits work and rules its
    own jobs. A worker is a node. An admin is a client who rules all jobs. You can revoke such a key
    alone, at any time. Broker, nodes and clients take their key as --key-file or MANYHANDS_KEY_FILE.
    """


@command.command(
    cls=Verb,
    name="new",
    examples=(
        ("one key for all; then copy it to every host", "manyhands keys new cluster.key"),
        (
            "on the broker's host: one for alice, let in at once",
            "manyhands keys new alice.key --role client --cluster cluster.key",
        ),
        (
            "elsewhere: one whose secret never leaves this host",
            "manyhands keys new my.key --role worker --broker-key PUBLIC",
        ),
    ),
)
@_FILE
@_ROLE
@click.option("--name", help="Whose the key is; else the file's name without its suffix.")
@click.option(
    "--cluster",
    metavar="FILE",
    type=_PATH,
    help="The cluster key of the broker that the key is for, which then lets it in.",
)
@click.option("--broker-key", metavar="PUBLIC", help="That broker's public key instead.")
@_LIST
@json_option
def new(
    file: Path,
    *,
    role: str | None,
    name: str | None,
    cluster: Path | None,
    broker_key: str | None,
    allow_file: Path | None,
    json: bool,
) -> None:
    """Make a key file that only you can read.

    An existing file is never overwritten.
    """
    if role is None:
        if cluster or broker_key or name:
            raise ConfigError("a key for one person or machine needs a --role")
        ClusterKey.new().save(file)
        if json:
            _output.document(file=str(file), role="cluster", name="", allowed=True)
            return
        _output.note(f"a new key is in {file}; copy it to every host, and keep it from other users")
        return
    name = name or file.name.partition(".")[0]
    if cluster is not None:
        key = RoleKey.new(role, name, _broker_key(cluster))
        # First the file, which is never overwritten: else a name that is taken would be let in twice.
        key.save(file)
        try:
            allow_list.allow(_list(cluster, allow_file), Allowed(key.public, role, name))
        except ConfigError:
            file.unlink()
            raise
        if not json:
            _output.note(f"a new {role}'s key for {name} is in {file}, and is let in")
    elif broker_key is not None:
        key = RoleKey.new(role, name, check_public(broker_key))
        key.save(file)
        if not json:
            _output.note(
                f"a new {role}'s key for {name} is in {file}; on the broker's host, let it in with:"
            )
            _output.say(f"manyhands keys allow {key.public} --role {role} --name {name}")
    else:
        raise ConfigError(
            "name the broker's cluster key with --cluster, or its public key with --broker-key; "
            "`manyhands keys show` prints it"
        )
    if json:
        about = {"role": role, "name": name, "public": key.public}
        _output.document(file=str(file), **about, allowed=cluster is not None)


@command.command(
    cls=Verb,
    name="show",
    examples=(("is it the same on two hosts?", "manyhands keys show cluster.key"),),
)
@_FILE
@json_option
def show(file: Path, *, json: bool) -> None:
    """Show the public keys that belong to a key file.

    The secret is never printed.
    """
    key = load(file)
    if isinstance(key, ClusterKey):
        public = {part: to_hex(key.pair(part).public) for part in PARTS}
        about = {"role": "cluster", "name": ""}
    else:
        public = {key.role: key.public, "broker": key.broker}
        about = {"role": key.role, "name": key.name}
    if json:
        mode = f"{stat.S_IMODE(file.stat().st_mode):04o}"
        _output.document(file=str(file), mode=mode, **about, public=public)
    else:
        _output.table(["of", "public key"], public.items())


@command.command(
    cls=Verb,
    name="allow",
    examples=(
        (
            "a public key that a colleague sent",
            "manyhands keys allow PUBLIC --role client --name alice --cluster cluster.key",
        ),
        ("a key file", "manyhands keys allow alice.key --cluster cluster.key"),
        (
            "alice's jobs may go before those of others",
            "manyhands keys allow alice.key --priority 10 --cluster cluster.key",
        ),
    ),
)
@click.argument("key", metavar="KEY")
@_ROLE
@click.option("--name", help="Whose the key is.")
@click.option(
    "--priority",
    type=click.IntRange(-1_000, 1_000),
    default=0,
    show_default=True,
    help="The highest priority that a client's jobs have among those of others.",
)
@_CLUSTER
@_LIST
@json_option
def allow(
    *,
    key: str,
    role: str | None,
    name: str | None,
    priority: int,
    cluster: Path | None,
    allow_file: Path | None,
    json: bool,
) -> None:
    """Let a key in: its public key, or the file that it is in.

    A running broker notices within a second. A key that is let in already gets the new role, name and
    priority.
    """
    public = key
    if Path(key).is_file():
        found = load(Path(key))
        if isinstance(found, ClusterKey):
            raise ConfigError(f"{key} is a cluster key, which its own broker always lets in")
        public, role, name = found.public, role or found.role, name or found.name
    if role is None or name is None:
        raise ConfigError("a public key alone does not say whose it is: add --role and --name")
    entry = Allowed(check_public(public), check_role(role), name, priority)
    allow_list.allow(_list(cluster, allow_file), entry)
    if json:
        _output.document(**_shown(entry))
    else:
        _output.note(f"{name} is let in as {role}")


@command.command(
    cls=Verb,
    name="revoke",
    examples=(("", "manyhands keys revoke alice --cluster cluster.key"),),
)
@click.argument("key", metavar="NAME|PUBLIC")
@_CLUSTER
@_LIST
@json_option
def revoke(*, key: str, cluster: Path | None, allow_file: Path | None, json: bool) -> None:
    """Let a key in no more.

    A running broker cuts its connections off within seconds: a client's jobs are cancelled, save
    durable ones; what a node had is run again elsewhere.
    """
    gone = allow_list.revoke(_list(cluster, allow_file), key)
    if json:
        _output.document(**_shown(gone))
    else:
        _output.note(f"the {gone.role}'s key {gone.name} is let in no more")


@command.command(
    cls=Verb, name="list", examples=(("", "manyhands keys list --cluster cluster.key"),)
)
@_CLUSTER
@_LIST
@json_option
def list_(*, cluster: Path | None, allow_file: Path | None, json: bool) -> None:
    """List the keys that are let in besides the cluster key."""
    keys = [_shown(key) for key in allow_list.read(_list(cluster, allow_file))]
    if json:
        _output.document(keys=keys)
    else:
        _output.table(
            ["name", "role", "priority", "public key"], [list(key.values()) for key in keys]
        )


def _shown(key: Allowed) -> dict[str, Any]:
    """A key that is let in, in plain values."""
    return {"name": key.name, "role": key.role, "priority": key.priority, "public": key.public}


def _broker_key(cluster: Path) -> str:
    """The public key of the broker with this cluster key, in hexadecimal."""
    key = load(cluster)
    if not isinstance(key, ClusterKey):
        raise ConfigError(f"{cluster} is the key of {key.name} alone, and no cluster key")
    return to_hex(key.pair("broker").public)


def _list(cluster: Path | None, allow_file: Path | None) -> Path:
    """Where the allow-list is."""
    if allow_file is not None:
        return allow_file
    if cluster is None:
        raise ConfigError(
            "name the broker's cluster key with --cluster, or its list with --allow-file"
        )
    return allow_list.place(cluster)
