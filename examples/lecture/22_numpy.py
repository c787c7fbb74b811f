"""NumPy works on an array in shared memory."""

from ctypes import c_uint32
from typing import Any

import numpy as np

import manyhands.multiprocessing as mp

raw_array = mp.RawArray(c_uint32, 9)


def func(raw_arr: Any, b: int) -> None:
    np_arr = np.frombuffer(raw_arr, dtype=np.uint32)
    np_arr = np_arr.reshape((3, 3))
    np_arr[:] = b
    print(mp.current_process(), np_arr.shape)


process_1 = mp.Process(target=func, args=(raw_array, 5))
process_2 = mp.Process(target=func, args=(raw_array, 3))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
print(list(raw_array))
