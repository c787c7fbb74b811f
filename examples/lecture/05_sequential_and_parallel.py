"""The same work by one process and by a pool."""

import random
import time

import manyhands.multiprocessing as mp


def func_h(x: int) -> None:
    i = 0
    while i < 20:
        x = x * x
        i += 1


n_cpu = 8
random_numbers = random.sample(range(50), n_cpu)

began = time.monotonic()
for random_number in random_numbers:
    func_h(random_number)
print(f"Последовательное выполнение: {time.monotonic() - began:.2f} s")

began = time.monotonic()
with mp.Pool(processes=n_cpu) as pool:
    pool.map(func_h, random_numbers)
print(f"Параллельное выполнение: {time.monotonic() - began:.2f} s")
