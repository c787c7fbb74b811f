"""Payloads of safe jobs: functions by name, arguments and results in msgpack. Nothing here can run code.

Values are what msgpack has: `None`, booleans, integers of 64 bits, floats, text, bytes, lists and maps.
Tuples arrive as lists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads.payload import Payload

#: How a function is called: as it is, or once for each item of a chunk (see `wrappers`).
CALL, MAP, STARMAP = "", "map", "starmap"
_WORDS = "None, bool, int of 64 bits, float, str, bytes, list and dict"


def dumps(value: Any) -> bytes:
    """A value as a payload.

    Raises:
        TypeError, ValueError, OverflowError: something in it is none of msgpack's types.
    """
    return bytes(msgpack.packb(value, use_bin_type=True))


def loads(payload: Payload) -> Any:
    """The value of a payload.

    Raises:
        ValueError: it is not msgpack, or more than that.
    """
    data = payload[0] if isinstance(payload, tuple) else payload
    return msgpack.unpackb(memoryview(data), raw=False, strict_map_key=False)


def pack_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments of a call.

    Raises:
        SubmitError: naming what cannot go.
    """
    try:
        return dumps([list(args), dict(kwargs)])
    except (TypeError, ValueError, OverflowError) as error:
        raise SubmitError(
            f"a safe job cannot take these arguments: {error}; it takes {_WORDS}"
        ) from None


def unpack_arguments(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    """The reverse of `pack_arguments`."""
    args, kwargs = loads(payload)
    return args, kwargs


def name_of(function: Callable[..., Any]) -> str:
    """``module:qualname``, by which a node can find the function.

    Raises:
        SubmitError: a node could not find it by its name.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found: Any = sys.modules.get(str(module))
    for part in str(name).split("."):
        found = getattr(found, part, None)
    if found is not function or module in ("__main__", "__mp_main__"):
        raise SubmitError(
            f"a safe job cannot run {name or type(function).__qualname__!r}: nodes find it by its name. "
            "Give a function of a module that nodes can import, not a lambda or one of the script's"
        )
    return f"{module}:{name}"


def pack_function(function: Callable[..., Any], how: str = CALL) -> bytes:
    """A function as a payload.

    Raises:
        SubmitError: a node could not find it by its name.
    """
    return dumps([name_of(function), how])


def unpack_function(payload: Payload) -> tuple[str, str]:
    """The name, and how it is called.

    Raises:
        ValueError: it is not a function by name.
    """
    value = loads(payload)
    if not (
        type(value) is list
        and len(value) == 2
        and type(value[0]) is str
        and value[1] in (CALL, MAP, STARMAP)
    ):
        raise ValueError("not a function by name")
    return value[0], value[1]


def cannot_return(value: object, error: BaseException) -> str:
    """Why a result cannot go, for people."""
    return (
        f"the result, of type {type(value).__qualname__}, cannot be sent by a safe job ({error}); "
        f"return {_WORDS}"
    )
