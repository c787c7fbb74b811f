"""Two processes change a value that has no lock."""

from ctypes import c_uint32
from typing import Any

import manyhands.multiprocessing as mp

raw_value = mp.RawValue(c_uint32, 0)


def func(v: Any) -> None:
    v.value += 1


process_1 = mp.Process(target=func, args=(raw_value,))
process_2 = mp.Process(target=func, args=(raw_value,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
print(raw_value)
