"""Threads share the objects of their process."""

import threading as thr


class A:
    def __init__(self) -> None:
        self.__i = 0

    def set_i(self, i: int) -> None:
        self.__i = i

    def __repr__(self) -> str:
        return f"A({self.__i})"


def func(objs: list[A]) -> None:
    for obj in objs:
        obj.set_i(2)


_list = [A(), A(), A()]
threads = [thr.Thread(target=func, args=(_list,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(_list)
