"""A root whose processes use one object at random and write down what they do; some are killed.

Run as a script: kind, folder, rounds, how many processes, how many kills, milliseconds between rounds.
Each process has a file of JSON lines: a call, and behind it its return. What has no answer returns with
the next that has one: from then on it is sure to have taken effect.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import warnings
from typing import Any

import manyhands.multiprocessing as mp


class Recorder:
    """Writes down what a process does."""

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._file = os.open(
            os.path.join(folder, f"{name}.jsonl"),  # noqa: PTH118 - run by a script
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        )
        self._number = 0
        self._quiet: list[int] = []

    def call(self, name: str, do: Any, argument: Any = None, *, quiet: bool = False) -> Any:
        """Do something, and write it down."""
        self._number += 1
        number = self._number
        self._write(call=number, name=name, argument=argument, at=time.monotonic())
        result = do()
        if quiet:
            self._quiet.append(number)
            return result
        now = time.monotonic()
        for one in self._quiet:
            self._write(end=one, at=now, result=None)
        self._quiet.clear()
        self._write(end=number, at=now, result=result)
        return result

    def _write(self, **row: Any) -> None:
        os.write(self._file, (json.dumps({"process": self.name, **row}) + "\n").encode())


def use_lock(lock: Any, record: Recorder, chance: random.Random) -> None:
    """Take and release."""
    block = chance.random() < 0.7

    def acquire() -> Any:
        return lock.fence if lock.acquire(block) else False

    if record.call("acquire", acquire) is not False:
        record.call("release", lock.release, quiet=True)


def use_semaphore(semaphore: Any, record: Recorder, chance: random.Random) -> None:
    """Take and release a token."""
    block = chance.random() < 0.5
    if record.call("acquire", lambda: semaphore.acquire(block)):
        record.call("release", semaphore.release, quiet=True)


def use_event(event: Any, record: Recorder, chance: random.Random) -> None:
    """Set, clear, look, wait."""
    what = chance.choice(("set", "clear", "look", "look"))
    if what == "look":
        record.call("look", event.is_set)
    else:
        record.call(what, event.set if what == "set" else event.clear, quiet=True)


def use_queue(queue: Any, record: Recorder, chance: random.Random) -> None:
    """Put what was never put, and take."""
    if chance.random() < 0.5:
        item = f"{record.name}:{record._number}"
        record.call("put", lambda: queue.put(item), item, quiet=True)
        return

    def get() -> Any:
        try:
            return queue.get(block=False)
        except Exception as error:
            if type(error).__name__ != "Empty":
                raise
            return None

    record.call("get", get)


def use_barrier(barrier: Any, record: Recorder, chance: random.Random) -> None:
    """Meet."""
    record.call("wait", barrier.wait)


def work(kind: str, shared: Any, folder: str, name: str, rounds: int, pause: int) -> None:
    """Use the object in `rounds`, with `pause` milliseconds in between."""
    use = {
        "lock": use_lock,
        "semaphore": use_semaphore,
        "event": use_event,
        "queue": use_queue,
        "barrier": use_barrier,
    }[kind]
    # Locks of the killed are what this is about.
    warnings.simplefilter("ignore", RuntimeWarning)
    record, chance = Recorder(folder, name), random.Random(name)
    for _ in range(rounds):
        use(shared, record, chance)
        if pause:
            time.sleep(pause / 1000)
    # It is answered, and so all before it has taken effect.
    last = mp.Event()
    record.call("end", lambda: last.is_set() and None)


def main(kind: str, folder: str, rounds: int, count: int, kills: int, pause: int) -> None:
    """Have `count` processes use an object; kill one from time to time, and start another."""
    makers: dict[str, Any] = {
        "lock": mp.Lock,
        "semaphore": lambda: mp.Semaphore(3 + kills),
        "event": mp.Event,
        "queue": mp.Queue,
        "barrier": lambda: mp.Barrier(count),
    }
    shared = makers[kind]()
    made = 0

    def start() -> Any:
        nonlocal made
        made += 1
        name = f"p{made}"
        process = mp.Process(
            target=work, args=(kind, shared, folder, name, rounds, pause), name=name, daemon=True
        )
        process.start()
        return process

    record, chance = Recorder(folder, "root"), random.Random(7)

    def await_bytes(process: Any, size: int) -> None:
        path = os.path.join(folder, f"{process.name}.jsonl")  # noqa: PTH118
        while process.exitcode is None:
            if os.path.exists(path) and os.path.getsize(path) >= size:  # noqa: PTH110, PTH202
                return
            process.join(0.01)

    processes = [start() for _ in range(count)]
    for _ in range(kills):
        killed = processes.pop(chance.randrange(count))
        await_bytes(killed, chance.randrange(1, 20_000))
        record.call("die", lambda one=killed: (one.kill(), one.join())[1], killed.name)
        processes.append(start())
    for process in processes:
        process.join()
        assert process.exitcode in (0, -9), process.exitcode
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
