"""Pipes whose ends travel: on one host the very descriptor, over hosts a stream."""

from __future__ import annotations

from harness.programs import Hosts, Run


def test_both_ends_and_both_kinds(run: Run) -> None:
    script = run("""
        def work(both, receiver, sender):
            both.send({"name": "child", "function": double})
            while True:
                try:
                    item = both.recv()
                except EOFError:
                    break
                both.send(item * 2)
            sender.send_bytes(receiver.recv_bytes())
            receiver.close()
            sender.close()

        def double(number):
            return 2 * number

        if __name__ == "__main__":
            ours, theirs = mp.Pipe()
            receiver, sender = mp.Pipe(duplex=False)
            back, forth = mp.Pipe(False)
            p = mp.Process(target=work, args=(theirs, receiver, forth))
            p.start()
            for end in (theirs, receiver, forth):
                end.close()
            first = ours.recv()
            print(first["name"], first["function"](4))
            for item in (3, "ab", [1]):
                ours.send(item)
                print(ours.recv())
            print(ours.poll(), mp.connection.wait([ours, p.sentinel], 0))
            ours.close()
            sender.send_bytes(b"x" * 5_000_000)
            print(back.poll(30), len(back.recv_bytes()))
            try:
                back.recv()
            except EOFError:
                print("the end")
            p.join()
            # Wait until the last reader's end is closed.
            poll = select.poll()
            poll.register(sender, 0)
            print(bool(poll.poll(60_000)))
            try:
                sender.send_bytes(b"y" * 1000)
            except BrokenPipeError:
                print("broken")
            print(p.exitcode, mp.connection.wait([p.sentinel]) == [p.sentinel])
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [
        *("child 8", "6", "abab", "[1, 1]", "False []", "True 5000000", "the end", "True"),
        "broken",
        "0 True",
    ]


def test_an_end_through_a_queue_and_through_a_pipe(run: Run) -> None:
    script = run("""
        def give(queue, pipe):
            receiver, sender = mp.Pipe(False)
            queue.put((receiver, lambda x: x + 1))
            sender.send("one")
            other, its = mp.Pipe()
            pipe.send(its)
            its.close()
            sender.send(other.recv())
            sender.close()

        if __name__ == "__main__":
            queue = mp.Queue()
            ours, theirs = mp.Pipe()
            p = mp.Process(target=give, args=(queue, theirs))
            p.start()
            receiver, add = queue.get()
            print(receiver.recv(), add(1), receiver.writable)
            end = ours.recv()
            end.send("two")
            print(receiver.recv())
            p.join()
            try:
                receiver.recv()
            except EOFError:
                print("the end", p.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["one 2 False", "two", "the end 0"]


def test_a_killed_process_closes_its_end(run: Run) -> None:
    script = run("""
        def wait(end):
            end.send("here")
            time.sleep(600)

        if __name__ == "__main__":
            receiver, sender = mp.Pipe(False)
            p = mp.Process(target=wait, args=(sender,))
            p.start()
            sender.close()
            print(receiver.recv())
            p.kill()
            try:
                receiver.recv()
            except EOFError:
                print("the end")
            p.join()
            print(p.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["here", "the end", "-9"]


def test_a_process_that_ends_elsewhere_leaves_the_end_open_here(apart: Run) -> None:
    script = apart("""
        if __name__ == "__main__":
            ours, theirs = mp.Pipe()
            p = mp.Process(target=theirs.send, args=("there",))
            p.start()
            print(ours.recv())
            p.join()
            # The process has closed its copy, this one has not.
            print(ours.poll(1))
            theirs.send("here")
            print(ours.recv())
            ours.send("back")
            print(theirs.recv())
            theirs.close()
            try:
                ours.recv()
            except EOFError:
                print("the end")
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["there", "False", "here", "back", "the end"]


def test_a_socket_keeps_its_timeout(run: Run) -> None:
    script = run("""
        import socket

        def wait(sock):
            try:
                sock.recv(10)
            except TimeoutError:
                print("timed out after", sock.gettimeout())

        if __name__ == "__main__":
            one, two = socket.socketpair()
            two.settimeout(0.25)
            p = mp.Process(target=wait, args=(two,))
            try:
                p.start()
            except OSError as error:
                print("no node here:", error)
            else:
                p.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["timed out after 0.25"] or script.lines[0].startswith("no node here:")


def test_what_was_printed_first_is_shown_first(run: Run) -> None:
    script = run("""
        def work(end):
            for number in range(20):
                print("child", number)
                end.send(number)
                end.recv()

        if __name__ == "__main__":
            ours, theirs = mp.Pipe()
            p = mp.Process(target=work, args=(theirs,))
            p.start()
            for number in range(20):
                print("root", ours.recv(), flush=True)
                ours.send(None)
            p.join()
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == [f"{who} {n}" for n in range(20) for who in ("child", "root")]


def test_an_open_socket_stays_on_its_host(apart: Run) -> None:
    script = apart("""
        import socket

        def take(queue):
            try:
                queue.get()
            except OSError as error:
                print("leave its host" in str(error), "start the process" in str(error))

        if __name__ == "__main__":
            queue = mp.Queue()
            p = mp.Process(target=take, args=(queue,))
            p.start()
            one, two = socket.socketpair()
            queue.put(one)
            p.join()
            queue.put(two)
            print(queue.get().send(b"x"), one.recv(1))
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True True", "1 b'x'"]


def test_the_broker_lets_an_agent_send_as_much_as_a_node(hosts: Hosts, apart: Run) -> None:
    script = apart("""
        def echo(end):
            end.send_bytes(end.recv_bytes())

        if __name__ == "__main__":
            ours, theirs = mp.Pipe()
            p = mp.Process(target=echo, args=(theirs,))
            p.start()
            data = os.urandom(100_000) * 1000
            ours.send_bytes(data)
            print(ours.recv_bytes() == data)
    """)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines == ["True"]
    assert "were shut" not in hosts.broker.log
