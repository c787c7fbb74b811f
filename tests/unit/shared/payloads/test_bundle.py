"""Bundles of modules: what is taken, and what no node unpacks."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import bundle
from manyhands_shared.payloads.bundle import File

GOOD = [File("a.py", "/home/a.py", b"A = 1"), File("p/__init__.py", "/home/p/__init__.py", b"")]


def test_equal_files_make_equal_bytes_in_any_order() -> None:
    payload = bundle.dump(GOOD)
    assert bundle.dump(reversed(GOOD)) == payload
    assert bundle.load(payload) == GOOD
    assert bundle.load((payload[:3], payload[3:])) == GOOD


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
    "payload", [b"", b"\xc1", b"\x93", msgpack.packb([2, []]), b"\xdd\xff\xff\xff\xff"]
)
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        bundle.load(payload)


def test_bundle_has_a_largest_size() -> None:
    large = [File("a.py", "", bytes(bundle.MAX_BYTES))]
    with pytest.raises(ProtocolError, match="bytes of code"):
        bundle.dump(large)
    with pytest.raises(ProtocolError, match="bytes of code"):
        bundle.load(packed([list(large[0])]))


def packed(rows: list[Any]) -> bytes:
    data: bytes = msgpack.packb(
        [bundle.VERSION, rows], use_bin_type=True, unicode_errors="surrogatepass"
    )
    return data
