"""A list that a manager keeps.

It reads an item and writes it back without a lock. The notes print [9, 10, 11]; where two processes
overlap, an increment is lost. So it is with `multiprocessing`.
"""

from typing import Any

import manyhands.multiprocessing as mp


def func(shared: Any) -> None:
    for i in range(len(shared)):
        shared[i] += 1


with mp.Manager() as manager:
    _list = manager.list([1, 2, 3])
    processes = [mp.Process(target=func, args=(_list,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(_list)
