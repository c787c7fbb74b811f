"""A pool of processes."""

import random
import time

import manyhands.multiprocessing as mp


def func(a: int) -> None:
    time.sleep(2)
    print(a**3)


n_cpu = 8
random_numbers = random.sample(range(10, 100), n_cpu)
began = time.monotonic()
with mp.Pool(processes=n_cpu) as pool:
    pool.map(func, random_numbers)
print(f"Wall time: {time.monotonic() - began:.2f} s")
