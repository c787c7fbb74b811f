"""`Process` as `multiprocessing` has it, wherever it runs."""

from __future__ import annotations

import signal

from harness.programs import Run


def test_output_and_exit_codes(run: Run) -> None:
    script = run("""
        def work(number):
            print("in", number, mp.current_process().name, mp.current_process().daemon)
            if number == 1:
                sys.exit(7)
            if number == 2:
                sys.exit("a word")
            if number == 3:
                raise ValueError("no")
            if number == 4:
                os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            processes = [mp.Process(target=work, args=(n,), name=f"p{n}") for n in range(5)]
            for process in processes:
                print(process.exitcode, process.pid, process.is_alive())
                process.start()
                process.join()
                assert not process.is_alive() and process.pid and process.ident == process.pid
            print([process.exitcode for process in processes], mp.active_children())
            print(processes[0])
    """)
    code, err = script.finish()
    assert code == 0, err
    fresh = "None None False"
    said = [line for n in range(5) for line in (fresh, f"in {n} p{n} False")]
    assert script.lines[:10] == said
    assert script.lines[10] == "[0, 7, 1, 1, -9] []"
    assert script.lines[11].startswith("<Process name='p0' pid=")
    assert script.lines[11].endswith("stopped exitcode=0>")
    assert "a word" in err
    assert "Process p3:" in err
    assert "ValueError: no" in err
    assert "manyhands" not in err.replace("manyhands-", "").replace("import manyhands", "")


def test_signals_and_sentinels(run: Run) -> None:
    script = run("""
        def work():
            time.sleep(600)

        if __name__ == "__main__":
            processes = [mp.Process(target=work) for _ in range(4)]
            mp.start_all(processes)
            sentinels = [process.sentinel for process in processes]
            print(select.select(sentinels, [], [], 0)[0], all(p.is_alive() for p in processes))
            processes[0].join(0.01)
            print(processes[0].exitcode, len(mp.active_children()))
            processes[0].terminate()
            processes[1].kill()
            processes[2].send_signal(signal.SIGUSR1)
            processes[3].send_signal(signal.SIGINT)
            from multiprocessing.connection import wait
            while len(wait(sentinels)) < 4:
                pass
            for process in processes:
                process.join()
            print([process.exitcode for process in processes])
            processes[0].terminate()
            processes[0].close()
            try:
                processes[0].exitcode
            except ValueError as error:
                print(error)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["[] True", "None 4", "[-15, -9, -10, 1]", "process object is closed"]
    assert "KeyboardInterrupt" in err


def test_nested_processes(run: Run) -> None:
    script = run("""
        def work(depth):
            parent = mp.parent_process()
            print(mp.current_process().name, parent.name, parent.is_alive())
            assert os.getppid() == parent.pid
            own = os.getpid()
            if os.fork() == 0:
                os._exit(os.getppid() != own)
            assert os.wait()[1] == 0
            if depth:
                child = mp.Process(target=work, args=(depth - 1,))
                child.start()
                child.join()
                print(child.name, child.exitcode)

        if __name__ == "__main__":
            print(mp.parent_process())
            process = mp.Process(target=work, args=(2,))
            process.start()
            process.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "None",
        "Process-1 MainProcess True",
        "Process-1:1 Process-1 True",
        "Process-1:1:1 Process-1:1 True",
        "Process-1:1:1 0",
        "Process-1:1 0",
    ]


def test_children_outlive_their_parent(run: Run) -> None:
    script = run("""
        def grandchild(said):
            mp.parent_process().join(60)
            print("parent is alive:", mp.parent_process().is_alive(), os.getppid())
            said.set()

        def work(said):
            process = mp.Process(target=grandchild, args=(said,))
            process.start()
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            said = mp.Event()
            process = mp.Process(target=work, args=(said,))
            process.start()
            process.join()
            print(process.exitcode)
            said.wait()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert sorted(script.lines) == ["-9", "parent is alive: False 1"]


def test_daemons_end_and_others_are_joined(run: Run) -> None:
    script = run("""
        def forever():
            time.sleep(600)

        def work():
            child = mp.Process(target=forever, daemon=True)
            child.start()
            print("daemon", child.daemon)
            try:
                sys.stdout.flush()
            finally:
                print("leaves")

        def daemonic():
            try:
                mp.Process(target=work).start()
            except AssertionError as error:
                print(error)

        if __name__ == "__main__":
            mp.Process(target=forever, daemon=True).start()
            process = mp.Process(target=daemonic, daemon=True)
            process.start()
            process.join()
            mp.Process(target=work).start()
            print("end")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines[0] == "daemonic processes are not allowed to have children"
    assert sorted(script.lines[1:]) == ["daemon True", "end", "leaves"]


def test_subclasses_keep_what_they_hold(run: Run) -> None:
    script = run("""
        class Worker(mp.Process):
            def __init__(self, label):
                self.label = label
                super().__init__(kwargs={"x": 1})
                self.more = [label] * 2

            def run(self):
                print(self.label, self.more, self._kwargs, self.name)

        if __name__ == "__main__":
            worker = Worker("one")
            worker.start()
            worker.join()
            print(worker.exitcode, isinstance(worker, mp.process.BaseProcess))
            try:
                worker.start()
            except AssertionError as error:
                print(error)
            offset = 40
            adder = mp.Process(target=lambda number: print(number + offset), args=(2,))
            adder.start()
            adder.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "one ['one', 'one'] {'x': 1} Worker-1",
        "0 True",
        "cannot start a process twice",
        "42",
    ]


def test_what_a_process_is_like(run: Run) -> None:
    script = run("""
        def work():
            print(sys.argv[1:], os.environ.get("CHANGED"), "PATH" in os.environ, "KEPT" in os.environ)
            print(os.getpgid(0) == os.getpid(), sys.stdin.read() == "", os.getcwd())
            print(mp.current_process().authkey == b"a key", mp.get_start_method())
            for number in (signal.SIGINT, signal.SIGTERM):
                print(signal.getsignal(number))

        if __name__ == "__main__":
            os.environ["CHANGED"] = "yes"
            os.environ.pop("KEPT", None)
            sys.argv[1:] = ["one", "two"]
            os.chdir("/")
            mp.current_process().authkey = b"a key"
            process = mp.Process(target=work)
            process.start()
            process.join()
            print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "['one', 'two'] yes True False",
        "True True /",
        "True spawn",
        "<built-in function default_int_handler>",
        str(int(signal.SIG_DFL)),
        "0",
    ]


def test_bad_use_is_told_in_a_sentence(run: Run) -> None:
    script = run("""
        class Odd:
            def __reduce__(self):
                return (fail, ())

        def fail():
            raise RuntimeError("does not load")

        class Stubborn:
            def __reduce__(self):
                raise TypeError("does not pickle")

        if __name__ == "__main__":
            process = mp.Process(target=print, args=("later",), node="nowhere")
            for _ in range(2):
                try:
                    process.start()
                except OSError as error:
                    print(type(error).__name__, error)
            process._node = None
            process.start()
            process.join()
            process = mp.Process(target=print, args=(Stubborn(),))
            try:
                process.start()
            except TypeError as error:
                print(error, process.exitcode)
            process = mp.Process(target=print, args=(Odd(),))
            process.start()
            process.join()
            print(process.exitcode)
            import multiprocessing
            process = mp.Process(target=print, args=(multiprocessing.Lock(),))
            try:
                process.start()
            except Exception as error:
                print(error)
            try:
                mp.init("tcp://127.0.0.1:1")
            except RuntimeError as error:
                print(error)
    """)
    code, err = script.finish()
    assert code == 0, err
    refused = (
        "ProcessNotStarted cannot start Process-1: no node or host of the cluster is called nowhere"
    )
    lock = (
        "a Lock of multiprocessing is known on one machine only; make it with "
        "manyhands.multiprocessing.Lock() instead"
    )
    assert script.lines == [
        refused,
        refused,
        "later",
        "does not pickle None",
        "1",
        lock,
        "init() comes too late: the program is connected to a cluster already",
    ]
    assert "RuntimeError: does not load" in err
    assert "install its modules there" in err


def test_a_socket_keeps_its_process_here(run: Run) -> None:
    script = run("""
        import socket

        def serve(sock):
            data, peer = sock.recvfrom(100)
            sock.sendto(data.upper(), peer)

        if __name__ == "__main__":
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("127.0.0.1", 0))
            process = mp.Process(target=serve, args=(server,))
            try:
                process.start()
            except OSError as error:
                print(error)
            else:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(30)
                    client.sendto(b"hello", server.getsockname())
                    print(client.recv(100).decode())
                process.join()
                print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    if len(script.lines) == 1:
        assert script.lines[0].startswith(
            "cannot start Process-1: it holds an open socket (UDP 127.0.0.1:"
        )
        assert ") and must run on this host, but no node of the cluster" in script.lines[0]
        assert script.lines[0].endswith("start one with: manyhands worker --broker ADDRESS")
    else:
        assert script.lines == ["HELLO", "0"]


def test_two_hosts_get_every_other_process(apart: Run) -> None:
    script = apart("""
        if __name__ == "__main__":
            gate = mp.Event()
            processes = [mp.Process(target=gate.wait) for _ in range(6)]
            mp.start_all(processes)
            print(sorted(process.host for process in processes))
            chosen = mp.Process(target=print, args=("here",), node="b")
            chosen.start()
            chosen.join()
            print(chosen.host)
            gate.set()
            for process in processes:
                process.join()
            print(mp.cpu_count())
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["['a', 'a', 'a', 'b', 'b', 'b']", "here", "b", "2"]


def test_a_program_that_has_used_memory_of_the_standard_library(apart: Run) -> None:
    script = apart("""
        from multiprocessing import shared_memory

        if __name__ == "__main__":
            # It starts the resource tracker.
            memory = shared_memory.SharedMemory(create=True, size=10)
            process = mp.Process(target=print, args=("here",))
            process.start()
            process.join()
            memory.close()
            memory.unlink()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["here"]
    assert err == ""


def test_a_forked_child_is_no_member(run: Run) -> None:
    script = run("""
        if __name__ == "__main__":
            gate = mp.Event()
            process = mp.Process(target=gate.wait)
            process.start()
            if not os.fork():
                try:
                    mp.Process(target=print).start()
                except OSError as error:
                    print(error, flush=True)
                os._exit(0)
            os.wait()
            gate.set()
            process.join()
            print(process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "this process was forked from a member of the program and is none itself",
        "0",
    ]


def test_large_arguments_and_environments_travel(run: Run) -> None:
    script = run("""
        def work(data, array):
            print(len(data), int(array.sum()), len(os.environ["LARGE"]), len(os.environ))

        if __name__ == "__main__":
            import numpy
            os.environ["LARGE"] = "x" * 60_000
            os.environ.update({f"MORE_{number}": "y" * 1000 for number in range(200)})
            process = mp.Process(target=work, args=(b"z" * 3_000_000, numpy.ones(500_000)))
            process.start()
            process.join()
            print(process.exitcode, len(os.environ))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines[0].startswith("3000000 500000 60000 ")
    assert script.lines[1].startswith("0 ")


def test_a_root_without_standard_output(run: Run) -> None:
    script = run("""
        def work(path):
            print("into nothing")
            with open(path, "w") as file:
                file.write("done")

        if __name__ == "__main__":
            if sys.argv[-1] != "again":
                os.close(1)
                os.execv(sys.executable, [sys.executable, __file__, "again"])
            path = __file__ + ".out"
            process = mp.Process(target=work, args=(path,))
            process.start()
            process.join()
            print(open(path).read(), process.exitcode, file=sys.stderr)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert err == "done 0\n"
    assert script.lines == []


def test_what_a_process_does_last_counts(run: Run) -> None:
    script = run("""
        def work(lock):
            lock.acquire()
            lock.release()

        def put(queue, number):
            queue.put(number)

        if __name__ == "__main__":
            lock, queue = mp.Lock(), mp.SimpleQueue()
            for _ in range(3):
                mp.start_all([mp.Process(target=work, args=(lock,)) for _ in range(6)])
                mp.start_all([mp.Process(target=put, args=(queue, n)) for n in range(6)])
                for process in mp.active_children():
                    process.join()
                print(lock.acquire(timeout=60), sorted(queue.get() for _ in range(6)))
                lock.release()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True [0, 1, 2, 3, 4, 5]"] * 3


def test_modules_that_processes_load_first(run: Run) -> None:
    script = run("""
        def loaded():
            print("colorsys" in sys.modules, flush=True)

        def start(target):
            [process := mp.Process(target=target), process.start(), process.join()]

        start(loaded)
        mp.set_forkserver_preload(["colorsys", "no_such_module"])
        start(lambda: [loaded(), start(loaded)])
    """)
    assert script.finish() == (0, "")
    assert script.lines == ["False", "True", "True"]
