"""Pools whose functions, arguments and initializers hold what the program shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.programs import Hosts, Run, Script

#: A pool's child has open what functions hold that it has cached: ends of pipes, for one.
DESCRIPTORS_KEPT = 64


def test_primitives_in_initargs_functions_and_arguments(run: Run) -> None:
    script = run("""
        def init(lock_, queue_, sender_):
            global lock, queue, sender
            lock, queue, sender = lock_, queue_, sender_

        def work(x):
            with lock:
                queue.put(x)
            sender.send(x)
            return x * x

        def use(args):
            event, names, x = args
            names[x] = "here"
            event.set()
            return x

        if __name__ == "__main__":
            lock, queue = mp.Lock(), mp.Queue()
            receiver, sender = mp.Pipe(False)
            with mp.Pool(2, init, (lock, queue, sender)) as pool:
                print(pool.map(work, range(8)))
                print(sorted(queue.get() for _ in range(8)))
                print(sorted(receiver.recv() for _ in range(8)))
                event, m = mp.Event(), mp.Manager()
                names = m.dict()
                print(pool.map(use, [(event, names, x) for x in range(4)]), event.is_set())
                print(sorted(names.items()) == [(x, "here") for x in range(4)])
                ours, theirs = mp.Pipe()
                pool.apply(lambda end: end.send("task"), (theirs,))
                print(ours.recv())
                m.shutdown()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        str([x * x for x in range(8)]),
        str(list(range(8))),
        str(list(range(8))),
        "[0, 1, 2, 3] True",
        "True",
        "task",
    ]


def test_a_child_whose_task_began_a_program_serves_the_one_of_its_pool(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        def begin():
            global own
            own = mp.Lock()
            with own:
                return True

        def both(lock, shared):
            inside = mp.Value("i", 4)
            with lock, inside:
                shared.value += inside.value
            return lock is not inside

        def end():
            # Before the child is killed, which leaves a cluster's files behind.
            from manyhands.multiprocessing._processes import membership
            for program in membership._Process.joined.values():
                if program.is_root:
                    program.leave()

        if __name__ == "__main__":
            lock, shared = mp.Lock(), mp.Value("i", 0)
            with mp.Pool(1) as pool:
                print(pool.apply(begin), pool.apply(both, (lock, shared)), shared.value)
                print(pool.apply(begin), pool.apply(both, (lock, shared)), shared.value)
                pool.apply(end)
    """,
    )
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True True 4", "True True 8"]


def test_a_child_serves_one_program_after_another(run: Run) -> None:
    for number in range(2):
        script = run(f"""
            def count(counter):
                with counter:
                    counter.notify_all()
                return {number}

            if __name__ == "__main__":
                with mp.Pool() as pool:
                    print(pool.map(count, [mp.Condition() for _ in range(6)]))
        """)
        code, err = script.finish()
        assert code == 0, err
        assert script.lines == [str([number] * 6)]


def test_what_a_child_makes_is_of_the_program_that_it_serves_then(run: Run) -> None:
    # The children are the same for both, but on clusters of their own.
    for number in range(2):
        script = run(f"""
            def make(lock):
                with lock:
                    return mp.Value("i", {number}), mp.Array("d", [{number}, 1])

            if __name__ == "__main__":
                with mp.Pool() as pool:
                    made = pool.map(make, [mp.Lock() for _ in range(6)])
                print([(value.value, array[:]) for value, array in made])
        """)
        code, err = script.finish()
        assert code == 0, err
        assert script.lines == [str([(number, [float(number), 1.0])] * 6)]


def test_a_pool_within_a_process(run: Run) -> None:
    script = run("""
        def square(x):
            return x * x

        def work(queue):
            with mp.Pool(1) as pool:
                queue.put(pool.map(square, range(3)))

        if __name__ == "__main__":
            queue = mp.Queue()
            p = mp.Process(target=work, args=(queue,))
            p.start()
            print(queue.get())
            p.join()
            print(p.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["[0, 1, 4]", "0"]


def test_what_tasks_write_to_shared_memory_is_there_with_their_results(apart: Run) -> None:
    script = apart("""
        def init(made):
            global array
            array = made

        def work(place):
            array[place] += place + 1

        if __name__ == "__main__":
            array = mp.RawArray("i", 24)
            ways = {
                "map": lambda pool: pool.map(work, range(24), 3),
                "apply": lambda pool: [pool.apply(work, (place,)) for place in range(24)],
                "async": lambda pool: [
                    one.get() for one in [pool.apply_async(work, (place,)) for place in range(24)]
                ],
                "imap": lambda pool: list(pool.imap(work, range(24), 3)),
                "unordered": lambda pool: list(pool.imap_unordered(work, range(24))),
            }
            with mp.Pool(4, init, (array,)) as pool:
                for name, way in ways.items():
                    for place in range(24):
                        array[place] = 0
                    way(pool)
                    print(name, list(array) == list(range(1, 25)))
    """)
    code, err = script.finish()
    assert code == 0, err
    names = ("map", "apply", "async", "imap", "unordered")
    assert script.lines == [f"{name} True" for name in names]


def test_memory_of_every_kind_travels_to_tasks_and_an_initializer_needs_no_task(apart: Run) -> None:
    script = apart("""
        from manyhands.multiprocessing import shared_memory

        def begin(names):
            names.append("begun")

        def fill(arguments):
            raw, array, value, memory, names = arguments
            raw[0], array[1], value.value, memory.buf[2], names[1] = 1, 2, 3, 4, "five"
            return True

        if __name__ == "__main__":
            names = mp.Manager().list()
            pool = mp.Pool(1, begin, (names,))
            pool.close()
            pool.join()
            print(*names)
            raw, array, value = mp.RawArray("i", 3), mp.Array("d", 3), mp.Value("q")
            memory = shared_memory.SharedMemory(create=True, size=64)
            names = shared_memory.ShareableList(["one", "none"])
            for kind in (raw, array, value, memory, names):
                with mp.Pool(1) as pool:
                    # Each comes first to some child.
                    print(pool.apply(lambda one: one is not None, (kind,)))
            with mp.Pool(2) as pool:
                print(pool.map(fill, [(raw, array, value, memory, names)]))
            print(raw[0], array[1], value.value, memory.buf[2], names[1])
            names.shm.unlink()
            memory.unlink()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["begun", *["True"] * 5, "[True]", "1 2.0 3 4 five"]


#: A pool of `concurrent.futures` with processes of ours.
WORKERS = """
        import functools
        from concurrent.futures import ProcessPoolExecutor

        class Point:
            def __init__(self, x):
                self.x = x

            def moved(self, by):
                return Point(self.x + by)

        class Wrong(Exception):
            pass

        def decorated(function):
            @functools.wraps(function)
            def call(*arguments):
                return function(*arguments) + offset
            return call

        @decorated
        def square(number):
            return number * number

        @functools.cache
        def twice(number):
            return 2 * number

        def fail():
            raise Wrong

        def begin(number):
            global offset
            offset = number

        if __name__ == "__main__":
            for context in (mp, mp.get_context("spawn")):
                with ProcessPoolExecutor(
                    2, mp_context=context, initializer=begin, initargs=(100,)
                ) as pool:
                    print(list(pool.map(square, range(4), chunksize=2)), pool.submit(twice, 4).result())
                    moved = pool.submit(Point(1).moved, by=2).result()
                    print(type(moved) is Point, moved.x, type(pool.submit(fail).exception()) is Wrong)
"""


@pytest.mark.parametrize("place", ["own", "beside"])
def test_a_library_s_workers_find_the_script_s_functions(
    place: str, hosts: Hosts, tmp_path: Path
) -> None:
    if place == "own":
        script = Script(tmp_path, WORKERS)
    else:
        script = Script(tmp_path, WORKERS, address=hosts.broker.address, host="a")
    assert script.finish() == (0, "")
    assert script.lines == ["[100, 101, 104, 109] 8", "True 3 True"] * 2


def test_workers_that_read_one_pipe_need_a_node_beside_the_script(apart: Run) -> None:
    code, err = apart(WORKERS).finish()
    assert code == 1
    assert "ProcessNotStarted: cannot start " in err
    assert "a queue of multiprocessing" in err
    assert "but no node of the cluster that can start it is there" in err
