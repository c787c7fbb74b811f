"""What processes print is there as on one terminal; their logs, and what they start themselves."""

from __future__ import annotations

from harness.programs import Run


def test_lines_are_whole_and_in_order(run: Run) -> None:
    script = run("""
        def work(number):
            for line in range(200):
                print(f"{number}:{line}", "x" * (line * 7 % 90), "end")

        if __name__ == "__main__":
            processes = [mp.Process(target=work, args=(n,)) for n in range(4)]
            mp.start_all(processes)
            for process in processes:
                process.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert len(script.lines) == 800
    for number in range(4):
        mine = [line for line in script.lines if line.startswith(f"{number}:")]
        assert mine == [f"{number}:{line} {'x' * (line * 7 % 90)} end" for line in range(200)]


def test_output_is_there_before_join_returns(run: Run) -> None:
    script = run("""
        def work(number):
            print("line", number)
            sys.stdout.write("no end of line")
            sys.stderr.write("an error\\n")

        if __name__ == "__main__":
            for number in range(10):
                process = mp.Process(target=work, args=(number,))
                process.start()
                process.join()
                print("!")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        text for number in range(10) for text in (f"line {number}", "no end of line!")
    ]
    assert err == "an error\n" * 10


def test_a_lot_of_output_waits_for_the_root(apart: Run) -> None:
    script = apart("""
        def work():
            for number in range(100_000):
                print(number, "y" * 100)

        if __name__ == "__main__":
            process = mp.Process(target=work)
            process.start()
            process.join()
            print("last")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert len(script.lines) == 100_001
    assert script.lines[-1] == "last"
    assert script.lines[:-1] == [f"{number} {'y' * 100}" for number in range(100_000)]


def test_a_replaced_stream_gets_what_others_print(apart: Run) -> None:
    script = apart("""
        import io

        if __name__ == "__main__":
            usual, sys.stdout = sys.stdout, io.StringIO()
            process = mp.Process(target=print, args=("caught",))
            process.start()
            process.join()
            usual.write(repr(sys.stdout.getvalue()) + "\\n")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["'caught\\n'"]


def test_what_is_printed_comes_before_what_it_causes(run: Run) -> None:
    script = run("""
        def second(event):
            event.wait()
            print("second")

        def first(event):
            print("first")
            event.set()

        if __name__ == "__main__":
            for _ in range(8):
                event = mp.Event()
                processes = [mp.Process(target=f, args=(event,)) for f in (second, first)]
                mp.start_all(processes)
                event.wait()
                print("root")
                for process in processes:
                    process.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    for at in range(0, 24, 3):
        assert script.lines[at] == "first", script.lines
        assert sorted(script.lines[at : at + 3]) == ["first", "root", "second"]


def test_a_short_process_is_over_before_the_next_begins(run: Run) -> None:
    script = run("""
        from manyhands.multiprocessing._processes import popen

        # So that a busy machine has the time for it: a moment is enough for an idle one.
        assert 0 < popen.HEAD_START < 1
        popen.HEAD_START = 60.0

        def work(number):
            # Every other one would come before the one that was started first.
            time.sleep(0.3 * (number % 2 == 0))
            print(number)

        if __name__ == "__main__":
            processes = [mp.Process(target=work, args=(number,)) for number in range(6)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [str(number) for number in range(6)]


def test_what_took_long_to_begin_has_a_longer_head_start(run: Run) -> None:
    script = run("""
        import time

        from manyhands.multiprocessing._processes import popen

        popen.LONGEST_HEAD_START = 60.0
        placed = popen.Popen.placed

        def placed_long_ago(self, node):
            placed(self, node)
            self._placed_at -= 4 * 60.0

        popen.Popen.placed = placed_long_ago

        if __name__ == "__main__":
            process = mp.Process(target=time.sleep, args=(0.3,))
            process.start()
            print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["0"]


def test_a_time_out_may_never_come(run: Run) -> None:
    script = run("""
        if __name__ == "__main__":
            never = float("inf")
            event, lock, semaphore, condition = mp.Event(), mp.Lock(), mp.Semaphore(), mp.Condition()
            event.set()
            print(event.wait(never), lock.acquire(True, never), semaphore.acquire(True, never))
            with condition:
                print(condition.wait_for(lambda: True, never))
            queue = mp.Queue()
            queue.put(7, True, never)
            print(queue.get(True, never), mp.Barrier(1).wait(never))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True True True", "True", "7 0"]


def test_the_log_of_a_process_is_its_own(run: Run) -> None:
    script = run("""
        import logging

        def work():
            print(logging.root.handlers, logging.root.level == logging.WARNING)
            logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")
            logging.info("said")

        if __name__ == "__main__":
            process = mp.Process(target=work)
            process.start()
            process.join()
            print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["[] True", "INFO said", "0"]


def test_standard_processes_that_a_process_starts_have_its_script(run: Run) -> None:
    script = run("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def square(number):
            return number * number

        def work(method):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                print(method, list(pool.map(square, [2, 3])))

        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                process = mp.Process(target=work, args=(method,))
                process.start()
                process.join()
                print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    said = [(f"{method} [4, 9]", "0") for method in ("fork", "spawn", "forkserver")]
    assert script.lines == [line for lines in said for line in lines]
