"""A class of processes."""

import time

import manyhands.multiprocessing as mp


class MyProcess(mp.Process):
    def run(self) -> None:
        print("MyProcess started")
        time.sleep(2)
        print("MyProcess finished")


p = MyProcess()
p.start()
