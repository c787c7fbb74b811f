"""Who may connect: CURVE with an allow-list of the cluster's own keys.

CURVE alone would encrypt for anybody: without a ZAP authenticator libzmq lets every key in. Here the
authenticator answers for one domain and admits exactly the public keys of the known roles.
"""

from __future__ import annotations

from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from manyhands_shared import address
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError
from manyhands_shared.keys import ClusterKey

DOMAIN = "manyhands"


def load_key(config: BrokerConfig) -> ClusterKey | None:
    """The cluster key, made first if the options say so; `None` on loopback without one.

    Raises:
        ConfigError: the address can be reached from elsewhere and there is no key.
    """
    if not config.key_file:
        if not address.is_local(config.bind):
            raise ConfigError(
                f"{config.bind} can be reached from other machines, and whoever reaches a broker runs "
                "code on its nodes: make a key with `manyhands keys new FILE` and give it as --key-file"
            )
        return None
    path = Path(config.key_file)
    if config.create_key and not path.exists():
        ClusterKey.new().save(path)
    return ClusterKey.load(path)


class _Allowed:
    """Credentials provider: the public keys of the roles that connect."""

    def __init__(self, keys: frozenset[bytes]) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether this public key may connect."""
        return domain == DOMAIN and key in self._keys


def secure(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], key: ClusterKey
) -> ThreadAuthenticator:
    """Make `router`, before it binds, a CURVE server for the roles of `key`; returns what to stop."""
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    roles = frozenset(key.pair(role).public for role in ("client", "worker"))
    authenticator.configure_curve_callback(DOMAIN, _Allowed(roles))
    pair = key.pair("broker")
    router.curve_server = True
    router.curve_secretkey = pair.secret
    router.curve_publickey = pair.public
    router.zap_domain = DOMAIN.encode()
    return authenticator
