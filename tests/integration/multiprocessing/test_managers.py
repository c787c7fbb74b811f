"""Managers: the standard library's, reached from every host."""

from __future__ import annotations

from harness.programs import Run


def test_containers_nested_proxies_and_locks(run: Run) -> None:
    script = run("""
        def work(d, l, lock, ns, q, n):
            for _ in range(5):
                with lock:
                    d["n"] += 1
            l.append(n)
            d["nested"].append(n)
            ns.x = n
            q.put(n)

        if __name__ == "__main__":
            with mp.Manager() as m:
                d, l, lock, ns, q = m.dict(n=0), m.list(), m.Lock(), m.Namespace(x=-1), m.Queue()
                d["nested"] = m.list([7])
                ps = [mp.Process(target=work, args=(d, l, lock, ns, q, n)) for n in range(4)]
                mp.start_all(ps)
                for p in ps:
                    p.join()
                print([p.exitcode for p in ps], d["n"], sorted(l), sorted(d["nested"]), ns.x >= 0)
                print(sorted(q.get() for _ in ps), str(m.list([1, 2])), repr(d)[:10])
                e = m.Event()
                e.set()
                print(e.is_set(), m.Value("i", 3).value, m.Array("i", [1, 2])[1])
            try:
                d["n"]
            except (EOFError, OSError) as error:
                print("over")
            print(mp.active_children())
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "[0, 0, 0, 0] 20 [0, 1, 2, 3] [0, 1, 2, 3, 7] True",
        "[0, 1, 2, 3] [1, 2] <DictProxy",
        "True 3 2",
        "over",
        "[]",
    ]


def test_registered_types_and_an_address_of_ones_own(run: Run) -> None:
    script = run("""
        import multiprocessing.managers
        from manyhands.multiprocessing.managers import BaseManager, BaseProxy

        class Counter:
            def __init__(self, value):
                self.value = value

            def add(self, number):
                self.value += number
                return self.value

            def fail(self):
                raise KeyError("no")

        class Remote(BaseManager):
            pass

        Remote.register("Counter", Counter)

        def work(counter, address, key):
            counter.add(5)
            Remote.register("Counter")
            again = Remote(address=address, authkey=key)
            again.connect()
            print(again.Counter(1).add(1))

        if __name__ == "__main__":
            m = Remote()
            m.start()
            assert isinstance(m, multiprocessing.managers.BaseManager)
            counter = m.Counter(10)
            p = mp.Process(target=work, args=(counter, m.address, b"of no use"))
            p.start()
            p.join()
            print(p.exitcode, counter.add(0), isinstance(counter, BaseProxy))
            try:
                counter.fail()
            except KeyError as error:
                print(error)
            m.shutdown()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["2", "0 15 True", "'no'"]


def test_a_manager_without_a_thread_refuses_a_connection_and_takes_the_next(run: Run) -> None:
    script = run("""
        import threading
        from manyhands.multiprocessing.managers import BaseManager

        class Threads:
            def limit(self, stack):
                return threading.stack_size(stack)

        class Manager(BaseManager):
            pass

        Manager.register("Threads", Threads)

        def use(threads, stack, said):
            try:
                threads.limit(stack)
                said.append("done")
            except (EOFError, OSError):
                said.append("refused")

        if __name__ == "__main__":
            with Manager() as manager:
                threads = manager.Threads()
                usual = threads.limit(1 << 47)
                said = []
                # A thread of a client has a connection of its own.
                for stack in (0, usual):
                    thread = threading.Thread(target=use, args=(threads, stack, said))
                    thread.start()
                    thread.join()
                    threads.limit(usual)
                print(said)
    """)
    assert script.finish() == (0, "")
    assert script.lines == ["['refused', 'done']"]


def test_a_proxy_that_only_the_child_has_left_goes_on(run: Run) -> None:
    script = run("""
        def work(names, end):
            end.recv()
            names.append("child")
            print(names[:])

        if __name__ == "__main__":
            m = mp.Manager()
            ours, theirs = mp.Pipe()
            names = m.list(["root"])
            p = mp.Process(target=work, args=(names, theirs))
            p.start()
            del names
            ours.send(None)
            p.join()
            print(p.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["['root', 'child']", "0"]


def test_finalizers_that_run_anywhere_end_nothing(run: Run) -> None:
    script = run("""
        import gc
        from manyhands_shared.coordination.channel import MemberChannel

        class Tells:
            def __init__(self, queue):
                self.queue = queue

            def __del__(self):
                self.queue.put(1)

        def collects_first(send):
            def collect_and_send(*args):
                gc.collect()
                send(*args)
            return collect_and_send

        if __name__ == "__main__":
            # A collection may come with any allocation: here in the middle of a message.
            MemberChannel.send = collects_first(MemberChannel.send)
            gc.disable()
            queue, lock = mp.Queue(), mp.Lock()
            queue.put(0)
            with mp.Manager() as m:
                for _ in range(20):
                    cycle = [m.list(), Tells(queue)]
                    cycle.append(cycle)
                    del cycle
                    with lock:
                        pass
                print(m.list([1, 2])[:], sum(queue.get() for _ in range(21)))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["[1, 2] 20"]
    assert err == ""


def test_memory_of_a_manager_goes_with_it(run: Run) -> None:
    script = run(
        """
        from manyhands.multiprocessing.managers import SharedMemoryManager
        from manyhands.multiprocessing.shared_memory import SharedMemory

        def work(memory, numbers):
            memory.buf[0] = 7
            numbers[1] = "two"

        if __name__ == "__main__":
            with SharedMemoryManager() as manager:
                memory, numbers = manager.SharedMemory(100), manager.ShareableList([1, "one"])
                process = mp.Process(target=work, args=(memory, numbers))
                process.start()
                process.join()
                print(memory.buf[0], list(numbers))
                name = memory.name
            try:
                SharedMemory(name)
            except FileNotFoundError:
                print("gone")
        """
    )
    assert script.finish() == (0, "")
    assert script.lines == ["7 [1, 'two']", "gone"]
