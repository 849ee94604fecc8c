import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason
from lydite.tlog import tiles
from lydite.tlog.tiles import Tile


def test_paths_are_those_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(3, 67, 112).path == "tile/3/067.p/112"
    assert Tile(None, 1000).path == "tile/entries/x001/000"


def test_a_tree_of_70_000_has_the_tiles_that_the_specification_counts() -> None:
    found = list(tiles.between(0, 70_000))
    level = {each: [tile for tile in found if tile.level == each] for each in (None, 0, 1, 2)}
    assert len(found) == sum(map(len, level.values()))
    for leaves in (None, 0):
        assert [tile.full for tile in level[leaves]] == [True] * 273 + [False]
        assert level[leaves][-1].width == 112
    assert level[1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert level[2] == [Tile(2, 0, 1)]


def test_a_tree_of_256_has_a_full_tile_and_one_above_it() -> None:
    assert list(tiles.between(0, 256)) == [Tile(None, 0), Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles.between(0, 0)) == []


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_growing_in_steps_makes_the_same_tiles(first: int, more: int) -> None:
    size = first + more
    stepwise = {*tiles.between(0, first), *tiles.between(first, size)}
    missing = set(tiles.between(0, size)) - stepwise
    assert not missing
    assert set(tiles.partial(size)) == {tile for tile in tiles.between(0, size) if not tile.full}


@given(st.none() | st.integers(0, 63), st.integers(0, 10**12), st.integers(1, 256))
def test_paths_survive_the_round_trip(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert tiles.parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/07",
        "tile/0/001.p/999",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/001\n",
        "tile/0/٠٠١",
        "tile/../checkpoint",
        "tile/0/../../wal",
        "tile/8/0/001",
        "tile/entries/x001/x/001",
        "tile/0/" + "x999/" * 20 + "999",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        tiles.parse_path(path)


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_survive_the_round_trip(entries: list[bytes]) -> None:
    assert tiles.decode_bundle(tiles.encode_bundle(entries), len(entries)) == entries


def test_a_bundle_is_lengths_in_two_big_bytes_and_entries() -> None:
    assert tiles.encode_bundle([b"", b"ab", b"c" * 258]) == b"\0\0\0\2ab\1\2" + b"c" * 258


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9), st.data())
def test_a_bundle_that_is_cut_or_prolonged_is_refused(
    entries: list[bytes], data: st.DataObject
) -> None:
    bundle = tiles.encode_bundle(entries)
    cut = data.draw(st.integers(0, len(bundle) - 1))
    for wrong in (bundle[:cut], bundle + b"\0\0", bundle + b"\0"):
        with pytest.raises(FormatError):
            tiles.decode_bundle(wrong, len(entries))


def test_the_longest_entry_fits_and_one_byte_more_does_not() -> None:
    longest = b"x" * 65_535
    assert tiles.decode_bundle(tiles.encode_bundle([longest]), 1) == [longest]
    with pytest.raises(FormatError) as caught:
        tiles.encode_bundle([longest + b"x"])
    assert caught.value.reason is Reason.TOO_LARGE
