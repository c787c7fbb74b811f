"""A value in shared memory, without a lock."""

from ctypes import c_float
from typing import Any

import manyhands.multiprocessing as mp

raw_value = mp.RawValue(c_float, 0.0)


def func(v: Any) -> None:
    v.value = v.value + 1.0
    print(v)


processes = [mp.Process(target=func, args=(raw_value,)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
