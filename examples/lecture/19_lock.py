"""A lock lets one process at a time change a value."""

import time
from ctypes import c_uint32
from typing import Any

import manyhands.multiprocessing as mp

# The program before this one left it at two.
raw_value = mp.RawValue(c_uint32, 2)
lock = mp.Lock()


def func(rw: Any, lock: Any) -> None:
    with lock:
        rw.value += 1
        time.sleep(2)


began = time.monotonic()
processes = [mp.Process(target=func, args=(raw_value, lock)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print(raw_value)
print(f"Wall time: {time.monotonic() - began:.2f} s")
