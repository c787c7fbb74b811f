"""Pools whose functions, arguments and initializers hold what the program shares."""

from __future__ import annotations

from harness.programs import Run


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
