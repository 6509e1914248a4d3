"""JSON from anywhere: right values come through, everything else is one sentence with its place."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxl_t.files.untrusted import MAX_DEPTH, UntrustedValueError, Value, parse_json, read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def value(raw):
    return Value(raw, "x.json", "a[1]")


def refusal(call):
    """The sentence with which a call refuses; None where it does not, and any other error passes."""
    try:
        call()
    except UntrustedValueError as error:
        return str(error)
    return None


@given(JSON)
def test_what_json_writes_is_read_equal(raw):
    text = json.dumps(raw)
    if "NaN" in text or "Infinity" in text:
        return
    assert parse_json(text, "x").raw == raw


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_one_error(data):
    sentence = refusal(lambda: parse_json(data, "x"))
    assert sentence is None or (sentence.startswith("x ") and "\x1b" not in sentence)


@given(JSON)
def test_every_accessor_gives_its_type_or_the_one_error(raw):
    calls = {
        "text": lambda v: v.text(),
        "integer": lambda v: v.integer(0, 9),
        "number": lambda v: v.number(),
        "boolean": lambda v: v.boolean(),
        "rows": lambda v: list(v.rows()),
        "pair": lambda v: v.pair(),
        "keys": lambda v: v.keys(),
        "key": lambda v: v["k"],
    }
    for call in calls.values():
        sentence = refusal(lambda call=call: call(value(raw)))
        assert sentence is None or sentence.startswith("x.json: a[1]")


def test_ranges_are_closed_and_true_is_no_number():
    assert value(3).integer(3, 3) == 3
    assert value(2).number(0, 2) == 2.0
    for raw in (2, 4, True, 3.0, "3", None):
        with pytest.raises(UntrustedValueError, match="whole number from 3 to 3"):
            value(raw).integer(3, 3)
    with pytest.raises(UntrustedValueError, match="where a number from 0 to 2 belongs"):
        value(10**400).number(0, 2)


def test_the_place_is_named_to_the_entry():
    table = parse_json('{"labels": [["a", 1], ["b", "cat"]]}', "dataset.json")
    rows = [row.pair() for row in table["labels"].rows()]
    with pytest.raises(UntrustedValueError, match=r"^dataset\.json: labels\[1\]\[1\] is text where"):
        rows[1][1].integer(0, 9)
    with pytest.raises(UntrustedValueError, match=r'^dataset\.json has no "classes"$'):
        table["classes"]
    assert table.get("classes") is None


def test_depth_is_bounded_on_both_sides():
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x").raw
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(UntrustedValueError, match="nested deeper than 64"):
            parse_json("[" * depth + "]" * depth, "x")


def test_huge_numbers_and_numbers_that_are_none_are_refused_quickly():
    begin = time.perf_counter()
    for text in ("9" * 4000, "[" + "1" * 1_000_000 + "]", "NaN", "[Infinity]"):
        with pytest.raises(UntrustedValueError, match="is not valid JSON"):
            parse_json(text, "x")
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"a":0},', b"0,"])
def test_what_would_fill_memory_is_refused_before_it_does(unit):
    data = b"[" + unit * (100 * 2**20 // len(unit)) + b"0]"
    begin = time.perf_counter()
    with pytest.raises(UntrustedValueError, match="could take"):
        parse_json(data, "x")
    assert time.perf_counter() - begin < 5


def test_a_label_table_of_imagenet_passes_the_memory_bound():
    row = b'["00000/img00000000.png", 123], '
    data = b'{"labels": [' + row * 200_000 + b'["a", 1]]}'
    signs = sum(cost * data.count(sign) for sign, cost in {b"{": 240, b"[": 96, b",": 72, b":": 72}.items())
    assert (signs + 5 * len(data)) * 1_281_167 / 200_000 < 3 * 2**29
    assert len(list(parse_json(data, "x")["labels"].rows())) == 200_001


def test_a_sparse_file_of_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "dataset.json"
    with path.open("wb") as file:
        file.truncate(5 * 2**30)
    with pytest.raises(ValueError, match="more than the"):
        read_json(path)
