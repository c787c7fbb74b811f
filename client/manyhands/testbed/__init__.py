"""Many hosts on one machine, in network namespaces: what a cluster does when its network fails.

>>> with Network(hosts=3) as network:                                    # doctest: +SKIP
...     broker, first, second = network.hosts
...     with broker.inside():
...         ...                       # sockets and processes made here are that host's
...     network.partition([first])    # now no host hears it, and it hears none
...     network.heal()

Linux only, as root, with iproute2. The machine's own network stays as it is. Hosts and the switch
between them are namespaces of their own, and reach nothing but each other.
"""

from __future__ import annotations

from manyhands.testbed._host import Host
from manyhands.testbed._link import Shape
from manyhands.testbed._names import sweep, unavailable
from manyhands.testbed._network import Network

__all__ = ["Host", "Network", "Shape", "sweep", "unavailable"]
