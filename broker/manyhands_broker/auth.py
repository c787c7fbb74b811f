"""Who may connect: CURVE with an allow-list, and what becomes of a connection whose key is revoked.

CURVE alone would encrypt for anybody: without a ZAP authenticator libzmq lets every key in. Here the
authenticator answers for one domain and admits exactly the keys that derive from the cluster key and
those on the allow-list. What it admitted stands at every message as its `User-Id`, which the peer
cannot choose.

The authenticator is asked only when a connection is made. So a key that is revoked later is cut off by
hand. Its messages are dropped unread, and its peers are told. A moment later their connections are shut
down, so that none goes on to send.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import zmq

from manyhands_broker import zmq_connection
from manyhands_broker.core import Identity, KeysChanged
from manyhands_broker.descriptor_reserve import reserve
from manyhands_broker.strangers import Strangers
from manyhands_shared.clock import monotonic
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError
from manyhands_shared.security import allow_list
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import load, to_hex, to_z85

if TYPE_CHECKING:
    from manyhands_broker.zap import AddressedAuthenticator

log = logging.getLogger("manyhands.broker")

DOMAIN = "manyhands"
#: Time that a peer whose key was revoked has to read why, and to leave by itself.
_FAREWELL_SECONDS = 1.0
#: Links whose connections are remembered, so that they can be shut down.
_MAX_MET = 16_384
_USER = "User-Id"
_DESCRIPTOR = int(zmq.SRCFD)


class Keyring:
    """The keys that are let in, and the connections of those that have said hello.

    A list that has changed and cannot be read does not say which keys were taken off. Until it can, its
    keys make no new connections; for those that are connected the last list stays in force.

    Raises:
        ConfigError: the allow-list cannot be used.
    """

    def __init__(self, key: ClusterKey, allowed: Path) -> None:
        self._own = {
            to_z85(who.key).decode(): who
            for who in (
                Identity(to_hex(key.pair(part).public), "", role)
                for part, role in (("client", "admin"), ("worker", "worker"))
            )
        }
        self._allowed = allowed
        #: Of the list as it was read last. Taken before it is read: a change meanwhile shows.
        self._stamp = _stamp(allowed)
        #: The same of a list that could not be read: the operator was told.
        self._unread: list[tuple[int, ...] | None] = []
        #: By public key, in ZeroMQ's form; and what the scheduler was told last.
        self._known: Mapping[str, Identity] = self._read()
        self._told: Mapping[str, Identity] = self._known
        # The authenticator asks in a thread of its own.
        self._lock = threading.Lock()
        #: Where the key comes from that is asked for next.
        self.address = ""
        self._strangers = Strangers()

    def at(self, address: str) -> None:
        """Note where the next key comes from."""
        self.address = address

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether this public key may connect; asked by the authenticator, in its thread."""
        public = key.decode("ascii", "replace")
        if domain != DOMAIN:
            return False
        # It may have been allowed, or revoked, a moment ago.
        if public in self._own or (self._reread() and public in self._known):
            return True
        self._strangers.showed_key(self.address, public, monotonic())
        return False

    def who(self, frame: zmq.Frame) -> Identity | None:
        """Whose message a frame is of; `None` if that key is not let in any more."""
        return self._known.get(str(frame.get(_USER)))

    @property
    def known(self) -> Mapping[str, Identity]:
        """Those that are let in, by public key, as they were told last."""
        return {who.key: who for who in self._told.values()}

    def refresh(self) -> KeysChanged | None:
        """Look whether the allow-list has changed; what it says now if it has."""
        self._reread()
        if self._known == self._told:
            return None
        self._told = self._known
        log.info("the allow-list has changed: %d keys are let in", len(self._told))
        return KeysChanged(self.known)

    def _reread(self) -> bool:
        """Take the list over if it has changed; return whether it is known as it is now."""
        with self._lock:
            stamp = _stamp(self._allowed)
            if stamp == self._stamp:
                return True
            try:
                self._known = self._read()
            except ConfigError as error:
                if self._unread != [stamp]:
                    self._unread = [stamp]
                    log.error(  # noqa: TRY400 - one line
                        "%s; for present connections the list as it was stays in force, and its keys "
                        "make no new ones",
                        error,
                    )
                return False
            self._stamp, self._unread = stamp, []
            return True

    def _read(self) -> dict[str, Identity]:
        with reserve():
            entries = allow_list.read(self._allowed, to_admit=True)
        listed = {
            to_z85(entry.public).decode(): Identity(
                entry.public, entry.name, entry.role, entry.priority
            )
            for entry in entries
        }
        return listed | self._own


class Gatekeeper:
    """Tells who has sent what, and shuts out whose key is revoked.

    Args:
        key: the cluster key.
        keyring: the keys that are let in.
    """

    def __init__(self, key: ClusterKey, keyring: Keyring) -> None:
        self.key = key
        self.keyring = keyring
        #: Link → whose it is, its connection's descriptor and far end; the oldest give way.
        self._met: dict[bytes, tuple[Identity, int, Any]] = {}
        #: Which links to shut down, and when.
        self._farewells: dict[bytes, float] = {}

    @classmethod
    def of(cls, config: BrokerConfig) -> Self:
        """Read the cluster key, made first if the options say so, and the allow-list.

        Raises:
            ConfigError: a file cannot be used.
        """
        key = _load_key(config)
        return cls(key, Keyring(key, _allow_file(config)))

    @property
    def known(self) -> Mapping[str, Identity]:
        """Those that are let in, by public key."""
        return self.keyring.known

    def who(self, peer: bytes, frame: zmq.Frame) -> Identity | None:
        """Whose message a frame from the link `peer` is of; `None` if it must not be read."""
        who = self.keyring.who(frame)
        if who is not None and (peer not in self._met or self._met[peer][0] is not who):
            descriptor = int(frame.get(_DESCRIPTOR))
            self._met[peer] = who, descriptor, zmq_connection.far_end(descriptor)
            if len(self._met) > _MAX_MET:
                del self._met[next(iter(self._met))]  # which then can only be ignored
        return who

    def forget(self, peer: bytes) -> None:
        """The link is gone, or nothing will be sent to it again."""
        if peer not in self._farewells:
            self._met.pop(peer, None)

    def check(self, now: float) -> list[KeysChanged]:
        """Read the allow-list if it has changed, and shut what is due; returns the change."""
        for peer in [peer for peer, when in self._farewells.items() if when <= now]:
            del self._farewells[peer]
            if peer in self._met:
                zmq_connection.shut(*self._met.pop(peer)[1:])
        change = self.keyring.refresh()
        if change is None:
            return []
        for peer, (who, *_) in self._met.items():
            if who.key not in change.known:
                self._farewells[peer] = now + _FAREWELL_SECONDS
        return [change]


def secure(
    context: zmq.Context[zmq.Socket[bytes]],
    router: zmq.Socket[bytes],
    key: ClusterKey,
    keyring: Keyring,
) -> AddressedAuthenticator:
    """Make `router`, before it binds, a CURVE server for the keys let in; returns what to stop.

    Raises:
        ConfigError: the system gives no thread.
    """
    # Not above: it takes asyncio along, and a broker for one machine needs neither.
    from manyhands_broker.zap import AddressedAuthenticator  # noqa: PLC0415

    authenticator = AddressedAuthenticator(context)
    authenticator.at = keyring.at
    try:
        authenticator.start()
    except OSError as error:
        raise ConfigError(
            f"cannot ask peers for their keys: {error.strerror}; allow more processes (`ulimit -u`)"
        ) from None
    authenticator.configure_curve_callback(DOMAIN, keyring)
    pair = key.pair("broker")
    router.curve_server = True
    router.curve_secretkey = pair.secret
    router.curve_publickey = pair.public
    router.zap_domain = DOMAIN.encode()
    # Without, an empty domain would mean: ask no authenticator, let every key in.
    router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return authenticator


def _load_key(config: BrokerConfig) -> ClusterKey:
    """Return the cluster key of the options' file, made first if they say so."""
    path = Path(config.key_file)
    if config.create_key and not path.exists():
        ClusterKey.new().save(path)
    key = load(path)
    if not isinstance(key, ClusterKey):
        raise ConfigError(
            f"{path} is the key of {key.name} alone; a broker takes a cluster key, which "
            "`manyhands keys new FILE` makes"
        )
    return key


def _allow_file(config: BrokerConfig) -> Path:
    """Where the allow-list is: beside the cluster key, unless the options say otherwise."""
    return Path(config.allow_file) if config.allow_file else allow_list.place(Path(config.key_file))


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells one version of a file from another; `None` if there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return ()  # unlike any version, so that the reason is looked for
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
