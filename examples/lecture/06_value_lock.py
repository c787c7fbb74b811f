"""Three ways to hold the lock of a value."""

from ctypes import c_uint32

import manyhands.multiprocessing as mp

v = mp.Value(c_uint32)

v.acquire()
v.value += 1
v.release()

with v.get_lock():
    v.value += 1

with v:
    v.value += 1

print(v.value)
