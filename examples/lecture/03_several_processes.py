"""As many processes as there are cores; they take as long as one."""

import random
import time

import manyhands.multiprocessing as mp


def func(a: int) -> None:
    time.sleep(2)
    print(a**3)


n_cpu = 8
began = time.monotonic()
processes = []
for _ in range(n_cpu):
    random_number = random.randint(10, 100)
    process = mp.Process(target=func, args=(random_number,))
    process.start()
    processes.append(process)

print(f"Мы запустили {n_cpu} процессов. Ждём их выполнения.")
for process in processes:
    process.join()
print("Все процессы выполнились и завершились.")
print(f"Wall time: {time.monotonic() - began:.2f} s")
