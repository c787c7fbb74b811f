"""An array in shared memory, with its lock: no increment is lost."""

import time
from ctypes import c_float
from typing import Any

import manyhands.multiprocessing as mp

array = mp.Array(c_float, 10000)


def func(arr: Any) -> None:
    with arr:
        for i in range(len(arr)):
            arr[i] += 1.0


began = time.monotonic()
processes = [mp.Process(target=func, args=(array,)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print(f"Wall time: {time.monotonic() - began:.2f} s")
with array:
    print(f"Increments: {sum(array):.0f}")
