"""A broker that waits a minute for nodes whose links are gone.

Ordinarily it waits two seconds, in which a node on a busy machine may not make a new link.
"""

from __future__ import annotations

import sys
from typing import Any

from manyhands_broker import server
from manyhands_broker.__main__ import main
from manyhands_broker.core.limits import Limits


def _patient(**given: Any) -> Limits:
    return Limits(**{**given, "link_grace": 60.0})


if __name__ == "__main__":
    setattr(server, "Limits", _patient)  # noqa: B010 - it exports no such name
    sys.exit(main())
