"""An array in shared memory, without a lock."""

import time
from ctypes import c_float
from typing import Any

import manyhands.multiprocessing as mp

raw_array = mp.RawArray(c_float, 10000)


def func(arr: Any) -> None:
    for i in range(len(arr)):
        arr[i] += 1.0


began = time.monotonic()
processes = [mp.Process(target=func, args=(raw_array,)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print(f"Wall time: {time.monotonic() - began:.2f} s")
