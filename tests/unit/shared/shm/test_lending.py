"""Lending memory between processes: what is lent stays as it is until it is given back."""

from __future__ import annotations

import gc
import os
import resource
import secrets
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from manyhands_shared import shm
from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol.held_result import Ticket

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")

_KEY = b"k" * 16
_SIZE = 1 << 16


class Pair:
    """A lender and a borrower that the test turns in place of their loops."""

    def __init__(self, missing: Callable[[bytes, bytes], None] | None = None) -> None:
        self.lender = shm.Lender(f"test-{secrets.token_hex(8)}", missing)
        self.borrower = shm.Borrower(lambda lender, key: self.dropped.append(key))
        self.dropped: list[bytes | None] = []
        self.done: list[bytes] = []

    def segment(self, content: bytes = b"x", key: bytes = _KEY) -> int:
        fd = shm.new_segment(_SIZE)
        os.pwrite(fd, content, 0)

        def given_back() -> None:
            self.done.append(key)
            os.close(fd)

        self.lender.offer(key, fd, given_back)
        return fd

    def serve(self) -> None:
        ready, _, _ = select.select([self.lender.fd], [], [], 100)
        assert ready
        # Perhaps the first turn only lets a borrower in that has asked already.
        self.lender.turn()
        self.lender.turn()

    def borrow(self, key: bytes = _KEY, hint: bytes = b"") -> int:
        fd = self.ask(key, hint)
        assert fd is not None
        return fd

    def ask(self, key: bytes = _KEY, hint: bytes = b"") -> int | None:
        self.borrower.ask(self.lender.address, key, hint)
        self.serve()
        return self.answer()

    def answer(self) -> int | None:
        assert select.select([self.borrower.fd], [], [], 100)[0]
        [(lender, _, found)] = self.borrower.turn()
        assert lender == self.lender.address
        return None if found is None else found[0]

    def owing(self) -> bool:
        return self.borrower.owing

    def view(self, fd: int) -> memoryview:
        view = shm.private_view(fd, _SIZE, self.borrower.returning(self.lender.address, _KEY))
        os.close(fd)
        return view

    def close(self) -> None:
        self.borrower.close()
        self.lender.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_borrowed_memory_is_the_lenders_and_writing_to_it_is_private(pair: Pair) -> None:
    fd = pair.segment(b"hello")
    borrowed = pair.borrow()
    assert borrowed is not None
    assert shm.fits(borrowed, _SIZE)
    view = pair.view(borrowed)
    assert bytes(view[:5]) == b"hello"
    view[0:1] = b"J"
    assert os.pread(fd, 5, 0) == b"hello"


def test_a_segment_is_free_when_withdrawn_and_given_back_and_not_before(pair: Pair) -> None:
    pair.segment()
    view = pair.view(pair.borrow())
    part = view[10:20]
    pair.lender.withdraw(_KEY)
    del view
    gc.collect()
    assert not pair.done, "a part of it is still looked at"
    del part
    gc.collect()
    pair.serve()
    assert pair.done == [_KEY]


def test_a_segment_that_nobody_borrowed_is_free_at_once(pair: Pair) -> None:
    pair.segment()
    pair.lender.withdraw(_KEY)
    assert pair.done == [_KEY]
    assert pair.ask() is None


def test_the_end_of_a_borrower_gives_everything_back(pair: Pair) -> None:
    pair.segment()
    os.close(pair.borrow())
    pair.lender.withdraw(_KEY)
    assert not pair.done
    pair.borrower.close()
    pair.serve()
    assert pair.done == [_KEY]


def test_a_closed_borrower_keeps_what_is_still_looked_at(pair: Pair) -> None:
    pair.segment()
    view = pair.view(pair.borrow())
    pair.lender.withdraw(_KEY)
    pair.borrower.close()
    pair.lender.turn()
    assert not pair.done
    del view
    gc.collect()
    pair.serve()
    assert pair.done == [_KEY]


def test_after_a_fork_nothing_is_given_back_while_the_child_may_look(pair: Pair) -> None:
    pair.segment(b"seen")
    view = pair.view(pair.borrow())
    pair.lender.withdraw(_KEY)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(write_end)
        os.read(read_end, 1)  # until the parent has let go
        os._exit(0 if bytes(view[:4]) == b"seen" else 1)
    os.close(read_end)
    del view
    gc.collect()
    pair.borrower.close()
    pair.lender.turn()
    assert not pair.done
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    pair.serve()
    assert pair.done == [_KEY]


def test_memory_outlives_the_lender(pair: Pair) -> None:
    pair.segment(b"stays")
    view = pair.view(pair.borrow())
    pair.lender.close()
    assert bytes(view[:5]) == b"stays"


def test_what_is_missing_can_come_later() -> None:
    asked: list[tuple[bytes, bytes]] = []
    pair = Pair(lambda key, hint: asked.append((key, hint)))
    pair.borrower.ask(pair.lender.address, _KEY, b"from there")
    pair.serve()
    assert asked == [(_KEY, b"from there")]
    pair.segment(b"late")
    fd = pair.answer()
    assert fd is not None
    assert os.pread(fd, 4, 0) == b"late"
    os.close(fd)
    pair.borrower.ask(pair.lender.address, b"n" * 16)
    pair.serve()
    pair.lender.deny(b"n" * 16)
    assert pair.answer() is None
    pair.close()


def test_who_has_a_withdrawn_segment_is_told_to_let_go(pair: Pair) -> None:
    pair.segment()
    os.close(pair.borrow())
    pair.lender.withdraw(_KEY, tell=True)
    assert select.select([pair.borrower.fd], [], [], 100)[0]
    assert pair.borrower.turn() == []
    assert pair.dropped == [_KEY]


def test_a_lender_that_is_not_there_is_an_answer(pair: Pair) -> None:
    pair.borrower.ask("manyhands-absent", _KEY)
    assert pair.borrower.pending
    assert pair.borrower.turn() == [("manyhands-absent", _KEY, None)]


def test_a_borrower_that_does_not_read_holds_nobody_up(pair: Pair) -> None:
    pair.segment()
    for _ in range(2_000):
        pair.borrower.ask(pair.lender.address, _KEY)
        pair.lender.turn()
    got = 0
    while got < 2_000:
        assert select.select([pair.borrower.fd], [], [], 100)[0]
        for _, _, found in pair.borrower.turn():
            assert found is not None
            os.close(found[0])
            got += 1
        pair.lender.turn()


def test_nonsense_ends_the_connection_and_nothing_else(pair: Pair) -> None:
    pair.segment(b"fine")
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect("\0" + pair.lender.address)
    line.send(os.urandom(500).replace(b"G", b"g", 1)[:400] or b"?")
    line.settimeout(5)
    pair.serve()
    pair.lender.turn()
    line.close()
    fd = pair.borrow()
    assert fd is not None
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_nothing(pair: Pair) -> None:
    pair.segment(b"secret")
    code = (
        "import os, socket, sys; os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.connect(chr(0) + sys.argv[1]); s.settimeout(5)\n"
        "try:\n s.send(b'G' + b'k' * 16); print(len(s.recv(99)))\n"
        "except OSError: print(0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, pair.lender.address], stdout=subprocess.PIPE, text=True
    )
    pair.serve()
    out, _ = process.communicate(timeout=120)
    assert out.strip() == "0"


_THIEF = """
import array, os, socket, sys
os.setuid(65534)
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.bind(chr(0) + sys.argv[1])
door.listen()
print("listens", flush=True)
peer, _ = door.accept()
peer.settimeout(100)
fd = os.memfd_create("manyhands", os.MFD_ALLOW_SEALING)
os.ftruncate(fd, 1 << 16)
try:
    said = peer.recv(4096)
    rights = array.array("i", [fd]).tobytes()
    peer.sendmsg([b"H" + said[1:17]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    peer.recv(4096)
except OSError:
    said = b""
print(len(said), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_dead_lenders_name_that_another_user_took_is_not_believed(pair: Pair) -> None:
    pair.segment(b"real")
    address = pair.lender.address
    pair.lender.close()
    with subprocess.Popen(
        [sys.executable, "-c", _THIEF, address], stdout=subprocess.PIPE, text=True
    ) as thief:
        try:
            assert thief.stdout is not None
            assert thief.stdout.readline() == "listens\n"
            assert pair.borrower.borrow(address, _KEY, b"", 5) == (True, None)
            assert thief.stdout.readline() == "0\n", "nothing was said"
        finally:
            thief.kill()


def test_a_name_from_a_message_leads_to_lenders_alone(pair: Pair) -> None:
    name = f"test-other-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind("\0" + name)
        other.listen()
        other.setblocking(False)
        pair.borrower.ask(name, _KEY)
        assert pair.borrower.turn() == [(name, _KEY, None)]
        with pytest.raises(BlockingIOError):
            other.accept()


def test_what_is_no_segment_is_not_mapped() -> None:
    fd = os.memfd_create("other")
    os.ftruncate(fd, _SIZE)
    assert not shm.fits(fd, _SIZE), "it could be cut short while it is mapped"
    os.close(fd)
    fd = shm.new_segment(_SIZE)
    assert shm.fits(fd, _SIZE)
    assert not shm.fits(fd, _SIZE + 1)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(fd, 1)
    os.close(fd)


def test_what_is_laid_is_cut_again() -> None:
    parts = [memoryview(bytes([n]) * length) for n, length in enumerate((5, 0, 64, 65, 1))]
    lengths = [part.nbytes for part in parts]
    memory = memoryview(bytearray(shm.span(lengths)))
    shm.lay(memory, parts)
    assert list(map(bytes, shm.cut(memory, lengths))) == list(map(bytes, parts))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        Ticket("h", "l", b"short", [1]).encode(),
        Ticket("h", "l", _KEY, []).encode(),
        Ticket("h", "l", _KEY, [-1]).encode(),
        Ticket("h", 5, _KEY, [1]).encode(),  # type: ignore[arg-type]
    ],
)
def test_a_bad_ticket_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="ticket"):
        Ticket.decode(body)
    good = Ticket("host", "lender", _KEY, [1, 2])
    assert Ticket.decode(good.encode()) == good


def _lend_many(pair: Pair, count: int) -> list[memoryview]:
    """Have the borrower map `count` segments, all withdrawn since."""
    keys = [number.to_bytes(16, "little") for number in range(count)]
    found = {}
    for key in keys:
        pair.segment(key=key)
        pair.borrower.ask(pair.lender.address, key)
        pair.lender.turn()
        pair.lender.turn()
        found.update({key: place[0] for _, key, place in pair.borrower.turn() if place})
    assert found.keys() == set(keys)
    views = []
    for key, fd in found.items():
        give_back = pair.borrower.returning(pair.lender.address, key)
        views.append(shm.private_view(fd, _SIZE, give_back))
        os.close(fd)
        pair.lender.withdraw(key)
    assert not pair.done
    return views


def test_what_is_given_back_to_a_busy_lender_arrives_in_the_end(pair: Pair) -> None:
    views = _lend_many(pair, 1000)
    views.clear()  # the lender reads nothing meanwhile, and the socket is full long before the end
    gc.collect()
    assert pair.owing()
    for _ in range(1000):
        pair.lender.turn()
        if not pair.owing():
            break
        # It says itself that there is room again.
        assert select.select([pair.borrower.fd], [], [], 100)[0]
        pair.borrower.turn()
    pair.lender.turn()
    assert len(pair.done) == 1000
    assert not select.select([pair.borrower.fd], [], [], 0)[0], "it is woken for nothing"


def test_a_return_that_was_lost_is_found_when_the_books_are_compared(pair: Pair) -> None:
    kept, lost = _lend_many(pair, 2)
    line = pair.borrower._lenders[pair.lender.address]
    key = (1).to_bytes(16, "little")
    del line._counts[key]  # as if it had been given back
    for _ in range(3):
        pair.lender.compare()
        pair.borrower.turn()
        pair.lender.turn()
    assert pair.done == [key]
    del lost
    kept.release()
    del kept
    gc.collect()
    pair.lender.turn()
    assert len(pair.done) == 2


def test_a_borrower_without_descriptors_leaves_nothing_lent(pair: Pair) -> None:
    pair.segment()
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    pair.borrower.ask(pair.lender.address, _KEY)
    pair.lender.turn()
    pair.lender.turn()
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        assert pair.borrower.turn() == [(pair.lender.address, _KEY, None)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    pair.lender.turn()
    pair.lender.withdraw(_KEY)
    assert pair.done == [_KEY]


def test_a_lender_without_descriptors_waits_quietly_and_lets_in_later(pair: Pair) -> None:
    pair.segment()
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    pair.borrower.ask(pair.lender.address, _KEY)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        pair.lender.turn()
        assert not select.select([pair.lender.fd], [], [], 0)[0], "it would turn without end"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    pair.lender.compare()
    pair.serve()
    fd = pair.answer()
    assert fd is not None
    os.close(fd)


def test_segments_in_one_file_are_lent_apart(pair: Pair) -> None:
    file = shm.new_segment(2 * _SIZE)
    os.pwrite(file, b"first", 0)
    os.pwrite(file, b"second", _SIZE)
    pair.lender.offer(_KEY, file, lambda: pair.done.append(_KEY))
    pair.lender.offer(b"s" * 16, file, lambda: os.close(file), _SIZE)
    pair.borrower.ask(pair.lender.address, b"s" * 16)
    pair.serve()
    [(_, _, place)] = pair.borrower.turn()
    assert place is not None
    fd, at = place
    assert (at, shm.fits(fd, _SIZE, at), shm.fits(fd, _SIZE + 1, at)) == (_SIZE, True, False)
    assert bytes(shm.shared_view(fd, _SIZE, at=at)[:6]) == b"second"
    os.close(fd)
