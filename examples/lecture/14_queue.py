"""A queue between two processes."""

import time
from typing import Any

import manyhands.multiprocessing as mp


def reporter(q: Any) -> None:
    for i in range(5):
        q.put(f"Hello, {i}")
        time.sleep(0.005)


def consumer(q: Any) -> None:
    while not q.empty():
        res = q.get()
        print(res)
        time.sleep(0.5)


queue = mp.Queue()
process_1 = mp.Process(target=reporter, args=(queue,))
process_2 = mp.Process(target=consumer, args=(queue,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
