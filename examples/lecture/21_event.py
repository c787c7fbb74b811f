"""One process tells another to go on, by an event."""

import time
from typing import Any

import manyhands.multiprocessing as mp

event = mp.Event()


def reporter(e: Any) -> None:
    time.sleep(3)
    e.set()


def consumer(e: Any) -> None:
    print("Wait")
    e.wait()
    print("Exit")
    e.clear()


process_1 = mp.Process(target=reporter, args=(event,))
process_2 = mp.Process(target=consumer, args=(event,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
