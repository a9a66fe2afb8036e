"""Files of connections: what is damaged or made to do harm is refused, small and fast."""

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.topology import Connectivity


def packed(path, **arrays):
    sound = {"shape": np.array([2, 3]), "indptr": np.array([0, 1, 2]), "indices": np.array([0, 2])}
    arrays = {name: array for name, array in (sound | arrays).items() if array is not None}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def claiming(path, header, content=b"", compression=zipfile.ZIP_DEFLATED, version=b"\x01\x00"):
    """A file whose array ``indices`` has a hand-made header."""
    packed(path, indices=None)
    with zipfile.ZipFile(path, "a", compression) as archive:
        text = (header + "\n").encode()
        archive.writestr("indices.npy", b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + content)


def header(shape, descr="<i8"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


BAD_FILES = {
    "empty": (lambda path: path.write_bytes(b""), "not a zip file"),
    "text": (lambda path: path.write_text("no zip"), "not a zip file"),
    "one array": (lambda path: np.save(path.open("wb"), np.arange(3)), "not a zip file"),
    "no shape": (lambda path: packed(path, shape=None), "shape is missing"),
    "no indptr": (lambda path: packed(path, indptr=None), "indptr is missing"),
    "no indices": (lambda path: packed(path, indices=None), "indices is missing"),
    "float indices": (lambda path: packed(path, indices=np.array([0.0, 2.0])), "indices holds float64"),
    "objects": (lambda path: packed(path, indices=np.array([0, None])), "indices holds object"),
    "booleans": (lambda path: packed(path, indices=np.array([False, True])), "indices holds bool"),
    "a matrix": (lambda path: packed(path, indices=np.zeros((1, 2), int)), "in 2 dimensions"),
    "a number": (lambda path: packed(path, indices=np.array(3)), "in 0 dimensions"),
    "three sizes": (lambda path: packed(path, shape=np.array([2, 3, 4])), "shape has 3"),
    "negative sizes": (lambda path: packed(path, shape=np.array([-2, 3])), "3 inputs and -2 neurons"),
    "no neurons": (lambda path: packed(path, shape=np.array([0, 3])), "3 inputs and 0 neurons"),
    "fewer neurons": (lambda path: packed(path, shape=np.array([1, 3])), "indptr has 3"),
    "more connections": (lambda path: packed(path, indices=np.arange(3)), "indices has 3"),
    "a start that is none": (lambda path: packed(path, indptr=np.array([1, 1, 2])), "indptr"),
    "fewer inputs": (lambda path: packed(path, shape=np.array([2, 2])), "indices"),
    "beyond 63 bits": (lambda path: packed(path, indices=np.array([0, 2**64 - 1], np.uint64)), "indices"),
    "more than there is": (lambda path: claiming(path, header((10**12,)), bytes(16)), "indices states 1000000000000"),
    "less than there is": (lambda path: claiming(path, header((2,)), bytes(24)), "indices states 2"),
    "a negative number": (lambda path: claiming(path, header((-2,)), bytes(16)), "indices states -2"),
    "a truth for a number": (lambda path: claiming(path, header("(True,)"), bytes(8)), "damaged"),
    "code": (lambda path: claiming(path, "__import__('os').abort()"), "damaged"),
    "half a header": (lambda path: claiming(path, header((2,))[:-20] + "((("), "damaged"),
    "a future header": (
        lambda path: claiming(path, header((2,)), bytes(16), version=b"\x03\x00"),
        "version",
    ),
    "packed otherwise": (
        lambda path: claiming(path, header((2,)), bytes(16), zipfile.ZIP_LZMA),
        "compression",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_connectivity_file_is_named(tmp_path, name):
    make, message = BAD_FILES[name]
    path = tmp_path / "layer.npz"
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"layer\.npz") as caught:
            Connectivity.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_the_sound_file_beside_them_is_read(tmp_path):
    packed(tmp_path / "layer.npz", indices=np.array([0, 2], np.uint8), indptr=np.array([0, 1, 2], ">i4"))
    assert Connectivity.load(tmp_path / "layer.npz") == Connectivity(3, 2, [0, 1, 2], [0, 2])


@pytest.mark.parametrize("array", ["shape", "indptr", "indices"])
def test_a_pickle_is_refused_without_running(tmp_path, array):
    path, trace = tmp_path / "layer.npz", tmp_path / "it ran"
    packed(path, **{array: np.array([Bomb(trace)], dtype=object)})
    with pytest.raises(ValueError, match=f"{array} holds object"):
        Connectivity.load(path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match="not a zip file"):
        Connectivity.load(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
@pytest.mark.parametrize("indptr", [[0, 1, 2], [0, 1, 68_000_000]])
def test_a_bomb_is_not_unpacked(tmp_path, indptr, kind):
    path, n = tmp_path / "layer.npz", 68_000_000
    packed(path, indptr=np.array(indptr), indices=np.zeros(n, kind))
    assert path.stat().st_size < n // 50
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="indices has 68000000"):
            Connectivity.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_unpacked_takes_a_few_times_its_size(tmp_path):
    path, n = tmp_path / "layer.npz", 1 << 20
    packed(path, indptr=np.array([0, 0, n]), indices=np.zeros(n, np.int64), shape=np.array([2, n]))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="indices"):
            Connectivity.load(path)
        assert tracemalloc.get_traced_memory()[1] < 25 * n
    finally:
        tracemalloc.stop()


def test_the_widest_layer_is_saved_and_loaded(tmp_path):
    n = 1 << 16
    layer = Connectivity.from_fan_in(n, np.full(n, 66), np.tile(np.arange(66) * 990, n))  # sparsity 99.9%
    layer.save(tmp_path / "layer.npz")
    assert Connectivity.load(tmp_path / "layer.npz") == layer


@settings(deadline=None)
@given(data=st.data())
def test_changed_bytes_are_a_value_error_or_nothing(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "layer.npz"
    sound = Connectivity.full(5, 4)
    if data.draw(st.booleans()):
        sound.save(path)
    else:
        with path.open("wb") as file:
            np.savez(file, shape=np.array([4, 5]), indptr=sound.indptr, indices=sound.indices)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, 2 * len(content)))])
    told = ""
    try:
        assert Connectivity.load(path) == sound
    except ValueError as error:
        told = str(error)
    assert not told or str(path) in told


def test_a_wide_layer_costs_its_connections(tmp_path):
    wide = Connectivity.from_fan_in(1 << 20, np.ones(1 << 12, int), np.zeros(1 << 12, int))  # 4 G pairs
    tracemalloc.start()
    try:
        wide.save(tmp_path / "layer.npz")
        assert Connectivity.load(tmp_path / "layer.npz") == wide
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        Connectivity.load(tmp_path / "absent.npz")


def test_saving_leaves_the_file_alone_and_the_one_before_if_it_fails(tmp_path):
    path = tmp_path / "layer.npz"
    Connectivity.full(2, 3).save(path)
    assert list(tmp_path.iterdir()) == [path]
    broken = Connectivity.full(4, 4)
    object.__setattr__(broken, "indices", np.array([Unwritable()], dtype=object))
    with pytest.raises(RuntimeError, match="in the middle"):
        broken.save(path)
    assert Connectivity.load(path) == Connectivity.full(2, 3)
    assert list(tmp_path.iterdir()) == [path]


class Unwritable:
    def __reduce__(self):
        raise RuntimeError("in the middle")
