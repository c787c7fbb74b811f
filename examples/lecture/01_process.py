"""A process runs beside the one that started it."""

import time

import manyhands.multiprocessing as mp


def func(a: int) -> None:
    print("Я поток process. Жду 2 секунды и печатаю вывод.")
    time.sleep(2)
    print(f"Я поток process. Результат выполнения: {a**3}")


process = mp.Process(target=func, args=(80,))
process.start()
print("Я основной поток. Продолжаю выполняться.")
process.join()
