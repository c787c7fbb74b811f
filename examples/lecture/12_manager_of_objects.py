"""Objects in a manager's list are copied: what a process changes of them stays there."""

from typing import Any

import manyhands.multiprocessing as mp


class A:
    def __init__(self) -> None:
        self.__i = 0

    def set_i(self, i: int) -> None:
        self.__i = i

    def __repr__(self) -> str:
        return f"A({self.__i})"


def func(objs: Any) -> None:
    for obj in objs:
        obj.set_i(2)


with mp.Manager() as manager:
    _list = manager.list([A(), A(), A()])
    processes = [mp.Process(target=func, args=(_list,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(_list)
