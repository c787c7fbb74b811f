"""Bundles of modules: what is taken, and what no node unpacks."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import bundle
from manyhands_shared.payloads.bundle import Bundle, DataFile, File, Surroundings

AROUND = Surroundings(
    [DataFile("d/a.csv", False, b"1"), DataFile("run.sh", True, b"#!")], {"A": "1", "B": "2"}
)
GOOD = [File("a.py", "/home/a.py", b"A = 1"), File("p/__init__.py", "/home/p/__init__.py", b"")]


def test_equal_files_make_equal_bytes_in_any_order() -> None:
    payload = bundle.dump(GOOD)
    assert bundle.dump(reversed(GOOD)) == payload
    assert bundle.load(payload) == Bundle(GOOD, Surroundings([]))
    assert bundle.load((payload[:3], payload[3:])).modules == GOOD


def test_what_is_around_travels_with_modules_or_without() -> None:
    payload = bundle.dump(GOOD, AROUND)
    assert bundle.load(payload) == Bundle(GOOD, AROUND)
    other = Surroundings(AROUND.files[::-1], dict(reversed([*AROUND.environment.items()])))
    assert bundle.dump(GOOD, other) == payload
    for around in (
        Surroundings([DataFile("a", False, b"")]),
        Surroundings(environment={"A": ""}),
        Surroundings(directory="/data"),
    ):
        assert bundle.load(bundle.dump([], around)) == Bundle([], around)


@pytest.mark.parametrize(
    ("around", "why"),
    [
        (Surroundings(environment={"": "1"}), "the variable ''"),
        (Surroundings(environment={"A=B": "1"}), "the variable 'A=B'"),
        (Surroundings(environment={"A": "\0"}), "the variable 'A'"),
        (Surroundings(environment={"A": "\udcff"}), "no text"),
        (Surroundings(environment={"MANYHANDS_BROKER": "x"}), "MANYHANDS_BROKER"),
        (Surroundings(environment={"A": "x" * 40_000}), "longer than 32768"),
        (Surroundings(environment={f"A{n}": "" for n in range(257)}), "257 variables, 256"),
        (Surroundings(directory="/a\0"), "directory"),
        (Surroundings(directory="/" * 2_000), "directory"),
        (Surroundings([DataFile("a", False, b"")], directory="/data"), "directory"),
        (Surroundings([DataFile("../a", False, b"")]), "the path"),
        (Surroundings([DataFile("a", False, b"")] * 2), "not rising"),
    ],
)
def test_what_no_child_can_have_is_refused_on_both_sides(around: Surroundings, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        bundle.dump([], around)
    files, pairs = [list(file) for file in around.files], list(around.environment.items())
    with pytest.raises(ProtocolError):
        bundle.load(packed([], files, pairs, around.directory))


def test_a_variable_may_be_there_once() -> None:
    with pytest.raises(ProtocolError, match="twice"):
        bundle.load(packed([], [], [["A", "1"], ["A", "2"]], ""))


@pytest.mark.parametrize(
    "path",
    [
        "../a.py",
        "p/../../a.py",
        "/etc/a.py",
        "./a.py",
        "p//a.py",
        "p/",
        "",
        "c:a.py",
        "p\\a.py",
        "a\0.py",
        "a\n.py",
        "x" * 300,
        "p/" * 600 + "a.py",
        "\udcff.py",
    ],
)
def test_path_that_leaves_its_directory_is_refused_on_both_sides(path: str) -> None:
    with pytest.raises(ProtocolError):
        bundle.dump([File(path, "", b"")])
    with pytest.raises(ProtocolError):
        bundle.load(packed([[path, "", b""]]))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [["a.py", "", b""], ["a.py", "", b""]],
        [["b.py", "", b""], ["a.py", "", b""]],
        [["a", "", b""], ["a/b.py", "", b""]],
        [["a.py", "", "text"]],
        [["a.py", b"", b""]],
        [["a.py", ""]],
        ["a.py"],
        [["a.py", "o" * 2_000, b""]],
        [[f"{number:05}.py", "", b""] for number in range(bundle.MAX_FILES + 1)],
    ],
)
def test_what_is_no_bundle_is_refused(rows: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        bundle.load(packed(rows))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93",
        msgpack.packb([1, []]),
        msgpack.packb([bundle.VERSION, []]),
        msgpack.packb([bundle.VERSION, [], [], [], 0]),
        msgpack.packb([bundle.VERSION, [], [], [["A"]], ""]),
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        bundle.load(payload)


def test_bundle_has_a_largest_size() -> None:
    large = [File("a.py", "", bytes(bundle.MAX_BYTES))]
    with pytest.raises(ProtocolError, match="bytes of code and files"):
        bundle.dump(large)
    with pytest.raises(ProtocolError, match="bytes of code and files"):
        bundle.load(packed([list(large[0])]))


def packed(modules: list[Any], *rest: Any) -> bytes:
    row = [bundle.VERSION, modules, *(rest or ([], [], ""))]
    data: bytes = msgpack.packb(row, use_bin_type=True, unicode_errors="surrogatepass")
    return data
