"""The tree and its proofs, beside the definitions of RFC 6962 written out."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError, LyditeError, VerificationError
from lydite.tlog import verification
from lydite.tlog.hashing import EMPTY_ROOT, leaf_hash, node_hash
from lydite.tlog.merkle import Tree

# The seven-and-one inputs and their roots that Certificate Transparency implementations share.
SHARED_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
SHARED_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def obvious_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + obvious_root(leaves[:k]) + obvious_root(leaves[k:])).digest()


def obvious_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*obvious_path(index, leaves[:k]), obvious_root(leaves[k:])]
    return [*obvious_path(index - k, leaves[k:]), obvious_root(leaves[:k])]


def obvious_proof(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if old == len(leaves):
        return [] if whole else [obvious_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*obvious_proof(old, leaves[:k], whole=whole), obvious_root(leaves[k:])]
    return [*obvious_proof(old - k, leaves[k:], whole=False), obvious_root(leaves[:k])]


def tree_of(leaves: list[bytes]) -> Tree:
    tree = Tree()
    tree.extend(leaves)
    return tree


def leaves_of(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


def test_the_shared_roots_are_ours() -> None:
    tree = tree_of(SHARED_LEAVES)
    assert [tree.root(size).hex() for size in range(9)] == list(SHARED_ROOTS)


def test_every_proof_of_a_small_tree_is_that_of_the_definition_and_verifies() -> None:
    leaves = leaves_of(37)
    tree = tree_of(leaves)
    for size in range(1, 38):
        root = tree.root(size)
        assert root == obvious_root(leaves[:size])
        for index in range(size):
            path = tree.inclusion_proof(index, size)
            assert path == obvious_path(index, leaves[:size])
            verification.inclusion(leaf_hash(leaves[index]), index, size, path, root)
        for old in range(1, size + 1):
            proof = tree.consistency_proof(old, size)
            assert proof == obvious_proof(old, leaves[:size])
            verification.consistency(old, tree.root(old), size, root, proof)


@given(st.lists(st.lists(st.binary(max_size=9), max_size=9), max_size=30))
def test_batches_of_any_size_make_the_same_tree(batches: list[list[bytes]]) -> None:
    tree, leaves = Tree(), []
    for batch in batches:
        tree.extend(batch)
        leaves += batch
        assert (tree.size, tree.root()) == (len(leaves), obvious_root(leaves))
    single = Tree()
    for leaf in leaves:
        single.append(leaf)
    assert single.root() == tree.root()


@settings(max_examples=60)
@given(st.integers(1, 3000), st.data())
def test_large_trees_agree_with_the_obvious_one(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree = tree_of(leaves)
    at = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, at - 1))
    old = data.draw(st.integers(1, at))
    assert tree.root(at) == obvious_root(leaves[:at])
    assert tree.inclusion_proof(index, at) == obvious_path(index, leaves[:at])
    assert tree.consistency_proof(old, at) == obvious_proof(old, leaves[:at])


@given(st.integers(1, 200), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    tree = tree_of(leaves_of(size))
    index = data.draw(st.integers(0, size - 1))
    path, root = tree.inclusion_proof(index, size), tree.root()
    leaf = leaf_hash(b"%d" % index)
    mutants = [
        (leaf_hash(b"x"), index, size, path, root),
        (leaf, index, size, path, leaf_hash(b"x")),
        (leaf, index, size, [*path, leaf], root),
        (leaf, index, size, [leaf, *path], root),
        (leaf, -1, size, path, root),
        (leaf, size, size, path, root),
        (leaf, index, size, path, root[:31]),
        (leaf[:31], index, size, path, root),
    ]
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda each: each != index))
        at = data.draw(st.integers(0, len(path) - 1))
        mutants += [
            (leaf, other, size, path, root),
            (leaf, index, size, path[1:], root),
            (leaf, index, size, path[:-1], root),
            (leaf, index, size, [*path[:at], bytes(32), *path[at + 1 :]], root),
            (leaf, index, size, [*path[:at], path[at] + b"x", *path[at + 1 :]], root),
            (leaf, index, size, [*path[:at], b"", *path[at + 1 :]], root),
        ]
    for mutant in mutants:
        with pytest.raises(LyditeError):
            verification.inclusion(*mutant)


def test_a_path_cut_into_pieces_of_other_lengths_is_refused() -> None:
    tree = tree_of(leaves_of(4))
    joined = b"".join(tree.inclusion_proof(0, 4))
    with pytest.raises(FormatError):
        verification.inclusion(leaf_hash(b"0"), 0, 4, [joined[:31], joined[31:]], tree.root())


def test_an_inner_node_is_no_leaf() -> None:
    tree = tree_of(leaves_of(4))
    node = node_hash(leaf_hash(b"0"), leaf_hash(b"1"))
    path = tree.inclusion_proof(0, 4)[1:]
    with pytest.raises(VerificationError):
        verification.inclusion(node, 0, 4, path, tree.root())


@given(st.integers(1, 100), st.data())
def test_a_changed_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    tree = tree_of(leaves_of(size))
    old = data.draw(st.integers(1, size))
    path = tree.consistency_proof(old, size)
    roots = tree.root(old), tree.root(size)
    mutants = [
        (old, leaf_hash(b"x"), size, roots[1], path),
        (old, roots[0], size, leaf_hash(b"x"), path),
        (old, roots[0], size, roots[1], [*path, bytes(32)]),
        (old, roots[0], size, roots[1], [bytes(32), *path]),
        (size + 1, roots[0], size, roots[1], path),
        (-1, roots[0], size, roots[1], path),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        mutants += [
            (old, roots[0], size, roots[1], path[:-1]),
            (old, roots[0], size, roots[1], path[1:]),
            (old, roots[0], size, roots[1], [*path[:at], bytes(32), *path[at + 1 :]]),
            (old, roots[0], size, roots[1], [*path[:at], b"", *path[at + 1 :]]),
            (old, roots[0], size, roots[1], []),
        ]
    for mutant in mutants:
        with pytest.raises(LyditeError):
            verification.consistency(*mutant)


@given(st.integers(1, 60), st.integers(1, 60), st.lists(st.binary(min_size=32, max_size=32)))
def test_an_invented_consistency_proof_is_refused(old: int, more: int, path: list[bytes]) -> None:
    with pytest.raises(VerificationError):
        verification.consistency(old, b"a" * 32, old + more, b"b" * 32, path)


def test_the_empty_tree_is_consistent_with_all_and_has_one_root() -> None:
    root = tree_of(leaves_of(5)).root()
    verification.consistency(0, EMPTY_ROOT, 5, root, [])
    verification.consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verification.consistency(5, root, 5, root, [])
    for refused in (
        (0, EMPTY_ROOT, 5, root, [root]),
        (0, bytes(32), 5, root, []),
        (0, bytes(32), 0, bytes(32), []),
        (5, root, 5, bytes(32), []),
        (5, root, 5, root, [root]),
    ):
        with pytest.raises(VerificationError):
            verification.consistency(*refused)


def test_a_tree_refuses_what_it_never_had() -> None:
    tree = tree_of(leaves_of(3))
    for ask in (
        lambda: tree.root(4),
        lambda: tree.root(-1),
        lambda: tree.inclusion_proof(0, 4),
        lambda: tree.inclusion_proof(3, 3),
        lambda: tree.inclusion_proof(-1, 3),
        lambda: tree.inclusion_proof(0, 0),
        lambda: tree.consistency_proof(2, 4),
        lambda: tree.consistency_proof(3, 2),
        lambda: tree.hashes(1, 0, 2),
        lambda: tree.extend_hashes(b"x" * 33),
    ):
        with pytest.raises(FormatError):
            ask()
