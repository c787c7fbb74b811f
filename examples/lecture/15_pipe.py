"""A pipe between two processes."""

import time
from typing import Any

import manyhands.multiprocessing as mp


def reporter(conn_write: Any) -> None:
    for i in range(5):
        conn_write.send(f"Hello, {i}")
        time.sleep(0.005)


def consumer(conn_read: Any) -> None:
    while True:
        res = conn_read.recv()
        print(res)
        time.sleep(0.5)
        if not conn_read.poll():
            break


conn_read, conn_write = mp.Pipe()
process_1 = mp.Process(target=reporter, args=(conn_write,))
process_2 = mp.Process(target=consumer, args=(conn_read,))
process_1.start()
process_2.start()
process_1.join()
process_2.join()
