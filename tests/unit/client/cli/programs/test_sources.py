"""What the sources of inputs are read as."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.cli._programs import sources
from manyhands.cli._reader import LineReader
from manyhands_shared.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("1-3,2", "2"),
        ("1,1", "1"),
        ("7,07", "7"),
        ("0-10:5,3-9:2,20", "5"),
        (f"0-{10**15}:{10**8},1-{10**15}:{10**8}", None),
    ],
)
def test_an_array_has_no_number_twice(text: str, twice: str | None) -> None:
    if twice is None:
        assert next(sources.array(text)) == "0"
        return
    with pytest.raises(ConfigError, match=f"has {twice} more than once"):
        sources.array(text)


RANGES = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9))


@given(st.lists(RANGES, min_size=1, max_size=5))
def test_an_array_is_refused_if_and_only_if_a_number_is_in_two_of_its_parts(
    parts: list[tuple[int, int, int]],
) -> None:
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in parts)
    numbers = [*itertools.chain(*(range(one, one + more + 1, step) for one, more, step in parts))]
    if len(set(numbers)) == len(numbers):
        assert list(sources.array(text)) == [*map(str, numbers)]
    else:
        with pytest.raises(ConfigError, match="more than once"):
            sources.array(text)


def test_many_numbers_are_compared_in_a_moment() -> None:
    assert sum(1 for _ in sources.array(",".join(map(str, range(50_000))))) == 50_000


@pytest.mark.parametrize("count", [0, 2])
def test_a_block_that_has_no_end_is_refused(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a\n" + b"x" * 200_000)
    monkeypatch.setattr(sources, "MOST_LINE", 100_000)
    with LineReader(str(source)) as reader, pytest.raises(ConfigError, match="more than 100000"):
        list(sources.blocks(reader, 1, count))
