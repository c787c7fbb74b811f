"""A value in shared memory, with its lock."""

from ctypes import c_float
from typing import Any

import manyhands.multiprocessing as mp

value = mp.Value(c_float, 0.0)


def func(v: Any) -> None:
    with v:
        v.value = v.value + 1.0
    print(v)


processes = [mp.Process(target=func, args=(value,)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
