"""Two processes at the same time."""

import time

import manyhands.multiprocessing as mp


def func(a: int) -> None:
    time.sleep(2)
    print(a**3)


process_1 = mp.Process(target=func, args=(2,))
process_2 = mp.Process(target=func, args=(4,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
