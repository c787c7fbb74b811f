"""What a task finds of its script: the module `__main__`, and multiprocessing's key.

A child of a forked pool has the script's `__main__`. Here it has a module with what travelled with the
function: the function itself, what it refers to, and what annotations name. Other classes of the script
lie in there as pickles, and are loaded when something asks for them by name, as plain `pickle` does.
Each function has a module of its own, for it sees the script as it was when the function was submitted.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_FUNCTIONS = frozenset({types.FunctionType, type(functools.lru_cache(lambda: None))})


class Main(types.ModuleType):
    """The `__main__` of the tasks of one function.

    It has no attribute `__file__`, though functions find that name among their globals. With one, what
    starts a process (loky, for one) would have it run the script again.
    """

    # Outside of the module's names, which are the script's.
    __slots__ = ("_guests", "arrival", "classes", "key", "only_adds", "visitors")

    def __init__(self) -> None:
        super().__init__("__main__")
        #: Pickles of classes and functions that nothing has asked for yet.
        self.classes: dict[str, bytes] = {}
        #: An `Arrival` that says what those become; None: as anything else that is loaded meanwhile.
        self.arrival: Any = None
        #: multiprocessing's key of the script; None for this process's own.
        self.key: bytes | None = None
        #: Whether globals of what is being loaded give way to those that are there.
        self.only_adds = False
        # Classes that came with arguments.
        self._guests: set[str] = set()
        #: What else came with the arguments of this task, by name.
        self.visitors: set[str] = set()

    def receive(self, name: str, kind: type) -> None:
        """Enter a class that came with arguments, unless the function brought one of its name."""
        ours = name in self._guests or name in self.visitors or name not in vars(self)
        if ours and name.isidentifier() and kind.__module__ == "__main__":
            self._guests.add(name)
            setattr(self, name, kind)

    def admit(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Return the names that functions among the arguments may bring: the others came along."""
        admitted = {
            name: value
            for name, value in names.items()
            if name in self.visitors or name not in vars(self)
        }
        self.visitors.update(admitted)
        return admitted

    def enter(self, function: types.FunctionType) -> None:
        """Enter a function that came with arguments, unless something of its name came along."""
        vars(self).update(self.admit({function.__qualname__: function}))

    def own_function(self, code: types.CodeType) -> types.FunctionType | None:
        """Return the function with this code that came along; not one that came with arguments.

        It is as it was when the call was submitted. With each call the client looks whether what the
        function refers to has changed, and sends it anew then.
        """
        name = code.co_qualname
        found = None if name in self.visitors else vars(self).get(name)
        return found if type(found) is types.FunctionType and found.__code__ == code else None

    def dismiss(self) -> None:
        """Let go of what came with arguments, but for classes: the next ones bring theirs."""
        for name in self.visitors - self._guests:
            vars(self).pop(name, None)
        self.visitors.clear()

    @property
    def __file__(self) -> str:  # type: ignore[override]
        raise AttributeError("__main__ of a task has no attribute '__file__'")

    def __getattr__(self, name: str) -> Any:
        pickled = self.classes.pop(name, None)
        if pickled is None:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        from manyhands_shared.payloads import pickled as serial  # noqa: PLC0415 - which is loaded, and knows this module

        with self.adding_only():
            value = serial.load_at(self.arrival, pickled)
        setattr(self, name, value)
        return value

    @contextlib.contextmanager
    def adding_only(self, on: bool = True) -> Iterator[None]:
        """Have what is loaded leave alone what the script has already."""
        before, self.only_adds = self.only_adds, on or self.only_adds
        try:
            yield
        finally:
            self.only_adds = before


class Script:
    """The script whose function runs in this process, or is being loaded."""

    def __init__(self) -> None:
        self.main: Main | None = None
        self._own_key: bytes | None = None

    def enter(self, main: Main) -> None:
        """Make this the script of what runs from now on."""
        from multiprocessing import process  # noqa: PLC0415 - a client does not come here

        here = process.current_process()
        if self._own_key is None:
            self._own_key = bytes(here.authkey)
        self.main = main
        sys.modules["__main__"] = main
        here.authkey = main.key or self._own_key


#: There is one in a process, as there is one `__main__`.
script = Script()


def own_classes() -> dict[str, type]:
    """Return the classes of this process's own script, by their names in it."""
    return {
        name: value
        for name, value in list(vars(sys.modules["__main__"]).items())
        if isinstance(value, type) and value.__module__ == "__main__"
    }


def own_functions() -> dict[str, Any]:
    """Return the functions of this process's own script, cached ones too, by their names in it."""
    return {
        name: value
        for name, value in list(vars(sys.modules["__main__"]).items())
        if type(value) in _FUNCTIONS and value.__module__ == "__main__"
    }


def manager_key() -> bytes | None:
    """Return multiprocessing's key of this process, if it uses managers, whose queues want it."""
    if "multiprocessing.managers" not in sys.modules:
        return None
    from multiprocessing import process  # noqa: PLC0415 - it is loaded

    return bytes(process.current_process().authkey)


def main_globals(names: dict[str, Any]) -> dict[str, Any]:
    """Return the globals of functions of the script. Called by pickles of such functions."""
    main = script.main
    if main is None:
        return names
    main.__dict__.update(missing(names) if main.only_adds else names)
    return main.__dict__


def visited_globals(names: dict[str, Any]) -> dict[str, Any]:
    """Return the same for functions of the script among the arguments of another one."""
    main = script.main
    if main is None:
        return names
    main.__dict__.update(main.admit(names))
    return main.__dict__


class MainGlobals(dict[str, Any]):
    """Pickles as the globals of the script over there.

    Args:
        find: returns these there: `main_globals` or `visited_globals`.
    """

    def __init__(self, find: Callable[[dict[str, Any]], dict[str, Any]] = main_globals) -> None:
        super().__init__()
        self._find = find

    def __reduce__(self) -> tuple[Any, ...]:
        return self._find, (dict(self),)


def missing(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the names that the script does not have yet."""
    main = script.main
    return {name: value for name, value in names.items() if name not in vars(main)}


def is_filled_up(space: dict[str, Any]) -> bool:
    """Whether these are the script's globals, and something is loaded that only adds to them."""
    main = script.main
    return main is not None and main.only_adds and space is vars(main)


def use_key(key: bytes | None) -> None:
    """Take multiprocessing's key from the script, if it sent one: what is loaded next may need it."""
    main = script.main
    if main is not None and key is not None:
        main.key = key
        script.enter(main)


def restore(
    _: None,
    value: Any,
    names: Mapping[str, Any],
    classes: Mapping[str, bytes],
    python: tuple[int, ...],
    eager: bool = False,
) -> Any:
    """Return the value of a function's pickle, and enter what came along into `__main__`.

    Args:
        value: the function, or what it travels in.
        names: what travelled with it, by its name in the script.
        classes: pickles of further classes, by their names.
        python: the version that wrote the pickles of classes. Another one cannot read them.
        eager: load those pickles now, as far as they load: what asks for them does not say so.
    """
    main = script.main
    if main is not None and main.only_adds:
        main.__dict__.update(missing(names))
    elif main is not None:
        main.__dict__.update(names)
        if python == sys.version_info[:2]:
            main.classes.update(classes)
            for name in list(main.classes) if eager else ():
                with contextlib.suppress(Exception):
                    getattr(main, name)
    return value
