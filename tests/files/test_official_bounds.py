"""What a hostile pickle may cost: memory and time in proportion to the file, and one sentence at the end."""

import contextlib
import io
import os
import pickle
import pickletools
import resource
import struct
import subprocess
import sys
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxl_t.files.pickles.arrays import Array
from sgxl_t.files.pickles.builders import read_pickle
from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.stream import BoundedReader
from sgxl_t.files.pickles.tree import Module, tensors_of
from sgxl_t.files.pickles.values import Named, PickledObject, RefusedError
from sgxl_t.model_io.published.file import OfficialFile, read_official

TEXT = b"X" + struct.pack("<I", 4 * 2**20 - 1) + b"x" * (4 * 2**20 - 1) + b"q\x00"
LIST = b"]q\x00(" + b"N" * 300_000 + b"e"
PAIRS = b"]q\x00(" + b"K\x01K\x01\x86" * 100_000 + b"e"


def named(module, name):
    return b"c" + module + b"\n" + name + b"\nq\x01"


def array_calls(count):
    """One numpy array of 16 kB, built again and again from one byte string."""
    data = b"B" + struct.pack("<I", 16_384) + bytes(16_384) + b"q\x02"
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85Rq\x03"
    new = b"h\x01)R(K\x01M\x00\x10\x85h\x03Nh\x02tb"
    return data + kind + named(b"numpy.core.multiarray", b"_reconstruct") + b"]q\x04(" + new * count + b"e"


def storage_calls(count):
    """One storage, opened again and again."""
    stored = pickletools.genops(pickle.dumps(torch.zeros(8), protocol=3))
    nested = next(argument for code, argument, _ in stored if code.name == "BINBYTES")
    data = b"B" + struct.pack("<I", len(nested)) + nested + b"q\x02"
    return data + named(b"torch.storage", b"_load_from_bytes") + b"](" + b"h\x01h\x02\x85R" * count + b"e"


def colliding(opcodes):
    """Whole numbers of one hash as keys."""
    prime = 2**61 - 1
    numbers = [(index + 1) * prime for index in range(20_000)]
    if opcodes == "memo":
        return b"N" + b"".join(b"p%d\n" % number for number in numbers)
    pushed = [b"\x8a" + bytes([10]) + number.to_bytes(10, "little") + b"N" for number in numbers]
    return b"}(" + b"".join(pushed) + b"u"


def calls(first, module, name, count=2000):
    """A name called with the value of the first instructions again and again."""
    return first + b"0" + named(module, name) + b"](" + b"h\x01h\x00\x85R" * count + b"e"


BOMBS = {
    "shapes of one list": lambda: calls(LIST, b"torch", b"Size"),
    "texts encoded": lambda: calls(TEXT, b"_codecs", b"encode"),
    "sets of one list": lambda: calls(LIST, b"builtins", b"set"),
    "storages": lambda: storage_calls(60_000),
    "colliding keys": lambda: colliding("keys"),
    "colliding places": lambda: colliding("memo"),
    "a long number": lambda: b"\x8b" + struct.pack("<i", 50_000_000) + bytes(50_000_000),
    "a long text": lambda: b"X" + struct.pack("<I", 50_000_000) + b"x" * 50_000_000,
}
LONG_BOMBS = {
    "dictionaries of one list": lambda: calls(PAIRS, b"collections", b"OrderedDict"),
    "empty sets": lambda: b"](" + b"\x8f" * 19_000_000 + b"e",
    "empty dictionaries": lambda: b"](" + b"}" * 19_000_000 + b"e",
    "marks": lambda: b"(" * 19_000_000,
    "names": lambda: b"](" + b"ca\nb\n" * 4_000_000 + b"e",
    "calls of nothing": lambda: named(b"a", b"b") + b"](" + b"h\x01)R" * 4_000_000 + b"e",
    "arrays": lambda: array_calls(60_000),
    "nested tuples": lambda: b")" + b"\x85" * 5_000_000,
    "nested lists": lambda: b"]" + b"]" * 2_000_000 + b"a" * 2_000_000,
    "doubled": lambda: b"]q\x00" + b"h\x00h\x00\x86q\x00" * 1_000_000,
}
"""These stop after a million instructions or two, which takes its seconds."""


def stream(body):
    return b"\x80\x04" + body + b"."


def read(raw):
    return read_pickle(BoundedReader(io.BytesIO(raw), 0, len(raw)))


def measure(bombs):
    """Reads every bomb; prints the megabytes that the process grew by and seconds of the longest."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest, largest = 0.0, 0
    for body in bombs.values():
        raw = stream(body())
        largest = max(largest, len(raw))
        start = time.process_time()
        with contextlib.suppress(RefusedError):
            read(raw)
        longest = max(longest, time.process_time() - start)
        del raw
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(grown - 3 * largest / 2**20, longest)


def measured(bombs):
    """The same in a process of its own."""
    command = [sys.executable, "-c", f"import {__name__} as here; here.measure(here.{bombs})"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return map(float, done.stdout.split())


def test_bombs_take_little_memory_and_time():
    megabytes, seconds = measured("BOMBS")
    assert megabytes < 300
    assert seconds < 20


@pytest.mark.slow
def test_long_bombs_take_little_memory_and_time():
    megabytes, seconds = measured("LONG_BOMBS")
    assert megabytes < 500
    assert seconds < 20


@pytest.mark.parametrize("name", ["a long number", "a long text"])
def test_what_is_too_long_is_a_record_that_says_so(name):
    value = read(stream(BOMBS[name]()))
    assert isinstance(value, PickledObject)
    assert "50000000 bytes" in value.problem


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


ODD = {
    "nested": deep,
    "record": lambda: PickledObject("somebody.Thing"),
    "name": lambda: Named("somebody.thing"),
    "huge": lambda: 10**30,
    "not a number": lambda: float("nan"),
    "array": lambda: Array(problem="holds a numpy array that is too large"),
}
ACCESSORS = {
    "number": lambda module: module.number("a"),
    "whole": lambda module: module.whole("a"),
    "flag": lambda module: module.flag("a"),
    "side": lambda module: module.side("a"),
    "child": lambda module: module.child("a"),
    "tensors": lambda module: module.own_tensors(),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("accessor", ACCESSORS)
def test_values_that_cannot_be_used_are_one_sentence_with_their_place(accessor, odd):
    value = ODD[odd]()
    state = {"a": value, "_modules": {"a": value}, "_parameters": {"a": value}, "_buffers": {}}
    with pytest.raises(RefusedError) as error:
        ACCESSORS[accessor](Module(PickledObject("Layer", state), "G_ema.synthesis"))
    said = str(error.value)
    assert "G_ema.synthesis" in said
    assert len(said) < 300


@pytest.mark.parametrize("odd", ["nested", "record", "name", "huge", "not a number"])
def test_counters_that_cannot_be_read_are_refused_where_training_goes_on(odd, tmp_path):
    file = OfficialFile(tmp_path / "n.pkl", 1, {"progress": {"cur_nimg": ODD[odd]()}}, "")
    assert file.kimg() is None
    with pytest.raises(ValueError, match=r"progress\.cur_nimg"):
        file.progress()


def test_one_storage_shown_a_thousand_times_is_refused_before_it_is_read():
    big = torch.zeros(300_000)
    (stored,) = read(pickle.dumps((big[:2].as_strided((2,), (299_999,)),), protocol=4))
    assert isinstance(stored, StoredTensor)
    assert torch.equal(stored.read(), torch.zeros(2))
    group = {f"p{index}": stored for index in range(100)}
    module = Module(PickledObject("Layer", {"_parameters": group, "_buffers": {}, "_modules": {}}), "G_ema")
    with pytest.raises(RefusedError, match="more numbers in G_ema than it has bytes"):
        tensors_of(module, limit=2 * big.nbytes)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_views_are_read_from_where_they_lie(shape):
    whole = torch.arange(40.0)
    count = max(torch.Size(shape).numel(), 1)
    view = whole[7 : 7 + 2 * count : 2][: torch.Size(shape).numel()].reshape(shape)
    transposed = torch.arange(40.0).view(5, 8).t()[2:6, 1:4]
    ours = [one.read() for one in read(pickle.dumps((view, transposed, whole), protocol=4))]
    for mine, theirs in zip(ours, (view, transposed, whole), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.is_contiguous()


def test_an_unknown_object_is_inert_and_its_items_are_left_out(tmp_path):
    content = {"G": None, "half": Fraction(1, 2), "G_ema": Fraction(1, 3), "keys": {(1, 2): 3, "a": 4}}
    path = tmp_path / "n.pkl"
    path.write_bytes(pickle.dumps(content))
    with path.open("rb") as source:
        stored = read_official(path, source).content
    assert isinstance(stored["half"], PickledObject)
    assert stored["half"].name == "fractions.Fraction"
    assert stored["keys"] == {"a": 4}


OPCODES = [code.code.encode("latin1") for code in pickletools.opcodes]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(OPCODES), st.binary(max_size=6)), max_size=60), st.booleans())
def test_any_stream_is_read_or_refused(parts, stopped):
    with contextlib.suppress(RefusedError):
        read(b"\x80\x04" + b"".join(parts) + b"." * stopped)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_of_a_small_file_is_read_or_refused(data):
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedError):
        read(bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw))


WHOLE = pickle.dumps({"G_ema": torch.nn.Linear(3, 4), "shape": torch.Size([1, 2])}, protocol=4)
