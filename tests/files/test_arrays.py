import io
import os
import resource
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgxl_t.files.arrays import BrokenArraysError, open_arrays, read_array

ARRAYS = {
    "n": np.int64(3),
    "rows": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.zeros((0, 5), np.float64),
    "text": np.asarray('{"a": 1}'),
    "truth": np.asarray([True, False]),
}


def stored():
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    return file.getvalue()


def everything(path):
    with open_arrays(path) as arrays:
        return {name: arrays.read(name) for name in arrays}


def test_what_numpy_wrote_comes_back(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(stored())
    found = everything(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with open_arrays(path) as arrays:
        assert (arrays["rows"].shape, arrays["rows"].dtype) == ((3, 4), np.float32)
        assert arrays.keys() >= {"n", "rows"}
        with pytest.raises(BrokenArraysError, match="no array other"):
            arrays.read("other")
    np.save(tmp_path / "b.npy", ARRAYS["turned"])
    assert np.array_equal(read_array(tmp_path / "b.npy"), ARRAYS["turned"])


def header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def hostile(kind):
    """Bytes of an .npz whose member lies."""
    if kind == "compressed":
        file = io.BytesIO()
        np.savez_compressed(file, a=np.zeros(10**6))
        return file.getvalue()
    if kind == "overlapping":
        data = bytearray(stored())
        place = data.find(b"PK\x01\x02")
        data[place + 20 : place + 28] = struct.pack("<II", 2**31 - 1, 2**31 - 1)
        return bytes(data)
    body = {
        "huge": header((2**45,)),
        "huge and empty": header((2**45, 0, 2**45)),
        "negative": header((-1,)) + bytes(8),
        "many dimensions": header((1,) * 30) + bytes(8),
        "objects": header((1,), "|O") + b"cos\nsystem\n(S'touch x'\ntR.",
        "records": header((1,), [("a", "<f8")]) + bytes(8),
        "cut": header((3,)) + bytes(8),
        "long": header((1,)) + bytes(16),
        "no header": b"\x93NUMPY\x01\x00\xff\xff{" + b"(" * 65534,
        "other version": b"\x93NUMPY\x03\x00" + bytes(100),
        "nothing": b"",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", body[kind])
    return file.getvalue()


KINDS = [
    "compressed",
    "overlapping",
    "huge",
    "huge and empty",
    "negative",
    "many dimensions",
    "objects",
    "records",
    "cut",
    "long",
    "no header",
    "other version",
    "nothing",
]


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_lie_are_refused_before_memory_is_taken(tmp_path, kind):
    path = tmp_path / "a.npz"
    path.write_bytes(hostile(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenArraysError) as caught:
        everything(path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_wrong_checksum_is_seen(tmp_path):
    data = bytearray(stored())
    place = data.find(ARRAYS["rows"].tobytes())
    data[place + 5] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BrokenArraysError, match="CRC"):
        everything(tmp_path / "a.npz")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    for read in (everything, read_array):
        with pytest.raises(OSError, match="named pipe"):
            read(tmp_path / "a.npz")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_changed_gives_arrays_or_one_kind_of_error(tmp_path, data):
    whole = bytearray(stored())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        if not whole:
            break
    (tmp_path / "a.npz").write_bytes(whole)
    try:
        for array in everything(tmp_path / "a.npz").values():
            assert array.nbytes <= len(whole)
    except BrokenArraysError:
        pass
