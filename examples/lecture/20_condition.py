"""One process tells another to go on, by a condition."""

import time
from typing import Any

import manyhands.multiprocessing as mp

condition = mp.Condition()


def reporter(c: Any) -> None:
    time.sleep(5)
    with c:
        c.notify()


def consumer(c: Any) -> None:
    with c:
        print("Wait")
        c.wait()
        print("Exit")


process_1 = mp.Process(target=reporter, args=(condition,))
process_2 = mp.Process(target=consumer, args=(condition,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
