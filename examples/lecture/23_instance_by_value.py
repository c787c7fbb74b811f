"""An instance is copied: what a process changes of it stays there."""

import os

import manyhands.multiprocessing as mp


class A:
    def __init__(self) -> None:
        self.__i = 0

    def set_i(self, i: int) -> None:
        self.__i = i
        print(f"ID of self.__i: {id(self.__i)}")

    def __str__(self) -> str:
        return f"A-{self.__i}"


def do_smth_with_a(a: A, i: int) -> None:
    a.set_i(i)
    print(f"Process: {os.getpid()}")
    print(f"ID of a: {id(a)}")
    print(f"a: {a}")


a = A()
process_1 = mp.Process(target=do_smth_with_a, args=(a, 1))
process_2 = mp.Process(target=do_smth_with_a, args=(a, 2))
process_1.start()
process_1.join()
process_2.start()
process_2.join()
print(a)
