"""Shared values, arrays and memory, on one host and on two."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from harness.processes import eventually
from harness.programs import Hosts, Run, Script


def test_eight_processes_count_under_the_lock_of_a_value(run: Run) -> None:
    script = run("""
        def work(v):
            with v:
                v.value += 1.0
                print(v)

        if __name__ == "__main__":
            v = mp.Value("f")
            processes = [mp.Process(target=work, args=(v,)) for _ in range(8)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            print(v.value, [p.exitcode for p in processes])
    """)
    code, err = script.finish()
    assert code == 0, err
    said = [f"<Synchronized wrapper for c_float({n}.0)>" for n in range(1, 9)]
    assert script.lines == [*said, "8.0 [0, 0, 0, 0, 0, 0, 0, 0]"]
    assert err == ""


def test_arrays_structures_and_locks_of_their_own(run: Run) -> None:
    script = run("""
        import ctypes
        import numpy as np

        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_short), ("z", ctypes.c_byte * 2)]

        def work(number, lock, raw, array, points, text, big):
            view = np.frombuffer(big, dtype=np.uint32)
            view[number::4] = number
            for _ in range(20):
                with lock:
                    raw.value += 1
                with array.get_lock():
                    array[number] += 1
                    array[4] += 1
                with points:
                    points[0].x += 0.5
                    points[number % 2].y += 1
            if number == 0:
                text.value = b"hello"

        if __name__ == "__main__":
            raw, array = mp.RawValue("i"), mp.Array("B", 5)
            points, text = mp.Array(Point, [(1, 2, (3, 4)), (0, 0, (7,))]), mp.Array("c", 10)
            big = mp.RawArray(ctypes.c_uint32, 100_000)
            lock = mp.Lock()
            arguments = (lock, raw, array, points, text, big)
            processes = [mp.Process(target=work, args=(n, *arguments)) for n in range(4)]
            mp.start_all(processes)
            for process in processes:
                process.join()
            print([process.exitcode for process in processes])
            print(raw, array[:], text.value, len(array), type(array).__name__)
            print([(p.x, p.y, p.z[:]) for p in points.get_obj()])
            print(bool((np.frombuffer(big, np.uint32).reshape(-1, 4) == range(4)).all()))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "[0, 0, 0, 0]",
        "c_int(80) [20, 20, 20, 20, 80] b'hello' 5 SynchronizedArray",
        "[(41.0, 42, [3, 4]), (0.0, 40, [7, 0])]",
        "True",
    ]
    assert err == ""


def test_memory_with_a_name(run: Run) -> None:
    script = run("""
        from manyhands.multiprocessing import shared_memory

        def work(name, numbers, again):
            there = shared_memory.SharedMemory(name)
            there.buf[:5] = b"howdy"
            there.close()
            numbers[1] = "two"
            again.buf[6] = 1
            try:
                shared_memory.SharedMemory("no_such_memory")
            except FileNotFoundError as error:
                print(error)
            made = shared_memory.SharedMemory("made_there", create=True, size=100)
            made.buf[0] = 9

        if __name__ == "__main__":
            memory = shared_memory.SharedMemory(create=True, size=64)
            numbers = shared_memory.ShareableList([1, "one", 2.5, None])
            process = mp.Process(target=work, args=(memory.name, numbers, memory))
            process.start()
            process.join()
            print(process.exitcode, bytes(memory.buf[:7]), list(numbers))
            made = shared_memory.SharedMemory("made_there")
            print(made.size, made.buf[0])
            name, made._name = made._name, made._name + "\\0a"
            try:
                made.unlink()
            except ValueError as error:
                print(error)
            made._name = name
            for one in (memory, numbers.shm, made):
                one.close()
                one.unlink()
            try:
                made.unlink()
            except FileNotFoundError:
                print("gone")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        "[Errno 2] No such file or directory: '/no_such_memory'",
        "0 b'howdy\\x00\\x01' [1, 'two', 2.5, None]",
        "100 9",
        "embedded null character",
        "gone",
    ]


def test_views_names_and_sizes_are_the_standard_library_s(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        import multiprocessing.shared_memory as standard
        import numpy as np
        from manyhands.multiprocessing import shared_memory

        VIEWS = (
            memoryview,
            lambda buffer: buffer[:3],
            lambda buffer: buffer.cast("i"),
            lambda buffer: np.frombuffer(buffer, dtype="u1"),
            lambda buffer: np.frombuffer(buffer[2:5], dtype="u1"),
        )
        NAMES = ("a/b", "a/", "", "/", "a" * 256, "no_such_memory", 5, b"a")

        def close(memory):
            try:
                memory.close()
            except BufferError as error:
                return str(error), memory._buf is None, memory._mmap is None
            return "closed", memory._buf is None, memory._mmap is None

        def behaviour(module):
            for view in VIEWS:
                memory = module.SharedMemory(create=True, size=16)
                other = view(memory.buf)
                yield memory.buf.format, memory.buf.shape, memory.buf.readonly
                yield close(memory)
                yield other.nbytes
                yield close(memory)
                del other
                yield close(memory)
                memory.unlink()
            for name in NAMES:
                for create in (False, True)[: 1 + (name != "no_such_memory")]:
                    try:
                        made = module.SharedMemory(name, create=create, size=1)
                    except (OSError, TypeError, ValueError) as error:
                        yield type(error), str(error)
            first = module.SharedMemory("/of_manyhands", create=True, size=1)
            first.buf[0] = 7
            second = module.SharedMemory("of_manyhands")
            yield first.name, second.name, second.buf[0]
            first.close()
            second.close()
            second.unlink()

        for ours, theirs in zip(behaviour(shared_memory), behaviour(standard), strict=True):
            if ours != theirs:
                print(ours, theirs)
    """,
    )
    code, err = script.finish()
    assert (code, script.lines) == (0, []), err


def test_writes_without_a_lock_are_seen_soon(run: Run) -> None:
    script = run("""
        def work(told, seen):
            while (number := told.value) != -1:
                seen.value = number

        if __name__ == "__main__":
            told, seen = mp.RawValue("i"), mp.RawValue("i")
            process = mp.Process(target=work, args=(told, seen))
            process.start()
            # However busy the machine is, one of many goes there and back without a pause.
            soon, until = False, time.monotonic() + 60
            while not soon and time.monotonic() < until:
                began = time.monotonic()
                told.value += 1
                while seen.value != told.value:
                    pass
                soon = time.monotonic() - began < 1.0
            told.value = -1
            process.join()
            print(soon, process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True 0"]


def test_memory_on_a_queue_outlives_its_maker(run: Run) -> None:
    script = run("""
        def make(queue):
            value, array = mp.RawValue("d", 2.5), mp.RawArray("i", 20_000)
            array[19_999] = 7
            queue.put((value, array))

        if __name__ == "__main__":
            queue = mp.Queue()
            process = mp.Process(target=make, args=(queue,))
            process.start()
            process.join()
            value, array = queue.get()
            print(value.value, array[19_999], sum(array))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["2.5 7 7"]


def test_what_a_pipe_says_of_memory_is_true(run: Run) -> None:
    script = run("""
        def work(connection, value):
            while (number := connection.recv()) is not None:
                connection.send(value.value == number)
                value.value = -number
                connection.send("written")

        if __name__ == "__main__":
            here, there = mp.Pipe()
            value = mp.RawValue("i")
            process = mp.Process(target=work, args=(there, value))
            process.start()
            right = 0
            for number in range(1, 21):
                value.value = number
                here.send(number)
                right += here.recv()
                here.recv()
                right += value.value == -number
            here.send(None)
            process.join()
            print(right)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["40"]


def test_memory_beyond_the_brokers_room(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, coordination_bytes=1 << 20)
    try:
        script = Script(
            tmp_path,
            """
            def work(array):
                print("in")

            if __name__ == "__main__":
                for size in (100_000, 2_000_000):
                    process = mp.Process(target=work, args=(mp.RawArray("c", size),), node="b")
                    process.start()
                    process.join()
                    print(process.exitcode)
            """,
            address=hosts.broker.address,
            host="a",
        )
        code, err = script.finish()
    finally:
        hosts.close()
    assert code == 0, err
    assert script.lines == ["in", "0", "1"]
    assert "1.9 MiB of shared memory do not fit the broker's room of 1.0 MiB" in err


def test_memory_goes_with_its_host(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    try:
        script = Script(
            tmp_path,
            """
            def parent_of(process):
                with open(f"/proc/{process}/stat") as file:
                    return file.read().rpartition(")")[2].split()[1]

            def make(queue):
                # What no process there has any more would go to the broker.
                array = mp.RawArray("i", 20_000)
                queue.put(array)
                # It does not wait for the broker, which must have it before the agent dies: this does.
                assert queue.qsize() == 1
                # The process that forks members is the host agent's child.
                print("agent", parent_of(parent_of("self")), flush=True)
                time.sleep(600)

            if __name__ == "__main__":
                queue = mp.Queue()
                process = mp.Process(target=make, args=(queue,), node="b")
                process.start()
                process.join()
                try:
                    queue.get()
                except OSError as error:
                    print(type(error).__name__, error)
            """,
            address=hosts.broker.address,
            host="a",
        )
        os.kill(int(script.until("agent")), signal.SIGKILL)
        code, err = script.finish()
    finally:
        hosts.close()
    assert code == 0, err
    assert script.lines[1:] == [
        "SharedStateLost shared memory was lost: the host that had it is lost"
    ]


def test_nothing_is_left_on_a_host(hosts: Hosts, tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        def work(array, value):
            array[0] = value.value = 1

        if __name__ == "__main__":
            for _ in range(3):
                array, value = mp.Array("i", 50_000), mp.Value("i")
                process = mp.Process(target=work, args=(array, value), node="b")
                process.start()
                process.join()
                print(array[0], value.value)
        """,
        address=hosts.broker.address,
        host="a",
    )
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["1 1"] * 3
    eventually(lambda: not _segments(hosts), what="no agent has a segment")


def _segments(hosts: Hosts) -> list[str]:
    """Return the segments of members that the agents of all nodes have."""
    found: list[str] = []
    for node in hosts.nodes.values():
        assert node.process is not None
        found += _memories(str(node.process.pid))
    return found


def _memories(pid: str) -> list[str]:
    """Return the shared memory of a process and its children that is not the node's own."""
    found: list[str] = []
    try:
        links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    found += [one for one in links if "memfd:manyhands" in one]
    for child in children:
        found += _memories(child)
    return found


def test_the_first_shared_memory_while_a_program_talks(tmp_path: Path) -> None:
    """The thread of the channel comes upon a module that another thread is loading."""
    script = Script(
        tmp_path,
        """
        import importlib.machinery, threading
        from manyhands.multiprocessing._processes import membership

        NAME = "manyhands.multiprocessing._memory.segments"
        began, goes_on = threading.Event(), threading.Event()

        class Slow:
            def find_spec(self, name, path, target=None):
                if name != NAME:
                    return None
                spec = importlib.machinery.PathFinder.find_spec(name, path)
                load = spec.loader.exec_module

                def wait_and_load(module):
                    began.set()
                    goes_on.wait(60)
                    load(module)

                spec.loader.exec_module = wait_and_load
                return spec

        queue = mp.Queue()
        queue.put("before")
        sys.meta_path.insert(0, Slow())
        loader = threading.Thread(target=lambda: mp.Value("i"))
        loader.start()
        began.wait(60)
        ticker = threading.Thread(target=membership.current().tick)
        ticker.start()
        ticker.join(0.2)
        goes_on.set()
        ticker.join()
        loader.join()
        print(queue.get())
        """,
    )
    assert script.finish() == (0, "")
    assert script.lines == ["before"]
