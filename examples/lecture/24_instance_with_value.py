"""An instance is shared where it holds a value in shared memory; a callable one is a target."""

from ctypes import c_uint32

import manyhands.multiprocessing as mp


class B:
    def __init__(self) -> None:
        self.__i = mp.Value(c_uint32, 0)

    def set_i(self, i: int) -> None:
        with self.__i.get_lock():
            self.__i.value = i
        print(f"ID of __i: {id(self.__i)}")

    def __str__(self) -> str:
        return f"B-{self.__i.value}"


def do_smth_with_b(b: B, i: int) -> None:
    b.set_i(i)


class C:
    def __init__(self) -> None:
        self.__i = mp.Value(c_uint32)

    def __call__(self, i: int) -> None:
        with self.__i:
            self.__i.value = i

    def __str__(self) -> str:
        return f"C-{self.__i.value}"


b = B()
process_1 = mp.Process(target=do_smth_with_b, args=(b, 1))
process_2 = mp.Process(target=do_smth_with_b, args=(b, 2))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
print(b)

c = C()
process_1 = mp.Process(target=c, args=(1,))
process_2 = mp.Process(target=c, args=(2,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
print(c)
