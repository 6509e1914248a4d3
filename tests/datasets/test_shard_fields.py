"""Captions and filters of shards."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_shards import numbers_of, picture, sample, write_shards

from sgxl_t.datasets import open_source
from sgxl_t.datasets.rejects import RejectedItemError
from sgxl_t.datasets.shards.filters import Filter
from sgxl_t.datasets.shards.source import ShardOptions


def source_of(place, **options):
    return open_source(place, resolution=16, shards=ShardOptions(**options))


def kept(source):
    return numbers_of(source.samples())


# captions


def several(number):
    return sample(number, short=["one", "two", None, ""], other="three")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), {"sample 3"}),
        (("caption",), {"json 3"}),
        (("txt", "other"), {"sample 3", "three"}),
        (("short", "other", "gone"), {"one", "two", "three"}),
    ],
)
def test_captions_come_from_the_named_fields(tmp_path, fields, expected):
    write_shards(tmp_path, shards=1, samples=1, first=3, of=several)
    source = source_of(tmp_path, caption_fields=fields)
    stream = source.stream(seed=0, part=0, parts=1)
    assert {next(stream)[1].caption for _ in range(60)} == expected
    assert source[0].caption == source[0].caption


def test_json_captions_stand_in_for_missing_texts(tmp_path):
    def without_text(number):
        files = sample(number)
        del files["txt"]
        return files

    assert source_of(write_shards(tmp_path, of=without_text))[2].caption == "json 2"


def test_caption_fields_that_are_nowhere(tmp_path):
    with pytest.raises(ValueError, match=r"\['alt'\] names no caption .*caption, height, key, width"):
        source_of(write_shards(tmp_path), caption_fields=("alt",))


def test_captions_in_any_language(tmp_path):
    texts = ["a cat", "Ein Bär über Köln", "красная лиса", "雪の中の狐", "ثعلب أحمر", "🦊 in ❄️"]
    write_shards(tmp_path, shards=1, of=lambda n: {"png": picture(n), "txt": texts[n].encode()})
    assert [one.caption for one in source_of(tmp_path).samples()] == texts


# filters


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("similarity > 0.3", [4, 5]),
        ("similarity > 0.15 and similarity < 0.35", [2, 3]),
        ("0.15 < similarity < 0.35 or NSFW == 'LIKELY'", [0, 2, 3]),
        ("not NSFW == 'LIKELY'", [1, 2, 3, 4, 5]),
        ("NSFW in ['UNLIKELY', 'UNSURE'] and similarity * 10 <= 1 + 0.5", [1]),
        ("NSFW not in ['UNLIKELY', 'UNSURE']", [0]),
        ("-similarity > -0.15", [0, 1]),
        ("aesthetic > 5", [5]),
    ],
)
def test_expressions(tmp_path, expression, expected):
    def scored(number):
        more = {"aesthetic": [None, None, 1, 5.0, float("nan"), 6][number]}
        return sample(number, similarity=number / 10, NSFW="UNLIKELY" if number else "LIKELY", **more)

    source = source_of(write_shards(tmp_path, shards=1, of=scored), filter=expression)
    assert kept(source) == expected
    assert not source.rejects.by_reason()
    assert source.rejects.notes["left out by the filter"] == 6 - len(expected)


@pytest.mark.parametrize("measured", [True, False])
def test_sides_are_computed_from_the_json_or_the_picture(tmp_path, measured):
    sizes = [(20, 20), (40, 20), (20, 60), (80, 80)]

    def sized(number):
        info = dict(zip(("width", "height"), sizes[number], strict=True)) if measured else {}
        data = picture(number, (9, 9) if measured else sizes[number])
        return {"png": data, "txt": f"sample {number}".encode(), "json": json.dumps(info).encode()}

    write_shards(tmp_path, shards=1, samples=4, of=sized)
    assert kept(source_of(tmp_path, filter="max_aspect <= 2")) == [0, 1, 3]
    assert kept(source_of(tmp_path, filter="min_side > 20")) == [3]


@pytest.mark.parametrize("name", ["00000.parquet", "metadata.parquet"])
def test_fields_of_a_table_beside_the_shards(tmp_path, name):
    write_shards(tmp_path, shards=1)
    keys = [f"{number:09d}" for number in range(5)]
    pd.DataFrame({"key": keys, "punsafe": [0.1, 0.9, 0.2, None, 0.3]}).to_parquet(tmp_path / name)
    assert kept(source_of(tmp_path, filter="punsafe < 0.25 and width == 20")) == [0, 2]


def test_lists_and_empty_cells_of_a_table(tmp_path):
    write_shards(tmp_path, shards=1)
    frame = pd.DataFrame(
        {"key": [f"{n:09d}" for n in range(4)], "tags": [["fox"], ["fox", "snow"], None, []]}
    )
    frame.assign(seen=pd.array([1, None, 3, 4], dtype="Int64")).to_parquet(tmp_path / "00000.parquet")
    assert kept(source_of(tmp_path, filter="'fox' in tags")) == [0, 1]
    assert kept(source_of(tmp_path, filter="seen >= 3")) == [2, 3]
    source = source_of(tmp_path, filter="tags == 'fox' or seen > 3")
    assert kept(source) == [3]


def test_tables_that_cannot_be_joined(tmp_path):
    write_shards(tmp_path, shards=1)
    pd.DataFrame({"punsafe": [0.1]}).to_parquet(tmp_path / "00000.parquet")
    with pytest.raises(ValueError, match=r'00000\.parquet .* no column "key"'):
        source_of(tmp_path, filter="punsafe < 0.25")
    (tmp_path / "00000.parquet").write_bytes(b"no table at all")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        source_of(tmp_path, filter="punsafe < 0.25")


def test_unknown_fields_are_one_sentence(tmp_path):
    write_shards(tmp_path)
    with pytest.raises(
        ValueError, match=r"reads smilarity, which .* use caption, height, key, width, min_side"
    ):
        source_of(tmp_path, filter="smilarity > 0.3 and width > 1")


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "width.real > 1",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "width > ",
        "width ** 9 > 1",
        "f'{width}' == '1'",
        "width[0] > 1",
        "width if 1 else 2",
        "x := 1",
        "None == width",
        "1j > 0",
        "(" * 300,
        "a" * 1001,
        "",
        "width\0",
        "width > 1; 1",
    ],
)
def test_nothing_but_comparisons_is_read(expression):
    with pytest.raises(ValueError, match=r"data\.filter"):
        Filter(expression)


def test_long_chains_do_not_run_away():
    assert Filter("not " * 200 + "a == 1").keeps({"a": 1}.get)
    assert not Filter("-" * 201 + "a > 0").keeps({"a": 1}.get)


def test_too_deep_is_one_sentence():
    with pytest.raises(ValueError, match="nested too deeply"):
        Filter("-" * 990 + "a > 0").keeps({"a": 1}.get)


def test_values_that_cannot_be_compared_are_rejected(tmp_path):
    with pytest.raises(RejectedItemError, match="filter cannot compare"):
        Filter("a > 1").keeps({"a": "high"}.get)
    with pytest.raises(RejectedItemError, match="arithmetic"):
        Filter("a * 999999999 == 1").keeps({"a": "high"}.get)
    write_shards(tmp_path, of=lambda n: sample(n, score="high" if n == 3 else n))
    source = source_of(tmp_path, filter="score >= 0")
    assert 3 not in kept(source)
    assert source.rejects.by_reason() == {"filter cannot compare": 1}


BAD_NUMBERS = {
    "similarity * 1.0 > 0.3": 10**400,
    "similarity / 2 > 0.3": 10**400,
    "1 / similarity < 4": 0,
    "similarity + 1 > 0.3": "high",
    "similarity > 0.3": [1],
    "-similarity < 0.3": {"a": 1},
    "similarity in 'abc'": 3,
    "similarity * similarity * similarity * similarity * similarity > 0": 10**999,
}


@pytest.mark.parametrize("expression", BAD_NUMBERS)
def test_one_value_that_arithmetic_fails_on_costs_its_sample_alone(tmp_path, expression):
    fine = "a" if " in " in expression else 1.0
    write_shards(tmp_path, of=lambda n: sample(n, similarity=BAD_NUMBERS[expression] if n == 3 else fine))
    source = source_of(tmp_path, filter=expression)
    stream = source.stream(seed=0, part=0, parts=1)
    assert all(next(stream)[1].caption != "sample 3" for _ in range(60))
    assert set(source.rejects.by_reason()) <= {"filter cannot compute", "filter cannot compare"}
    assert [name for name, _, _ in source.rejects.items] == ["00000.tar/000000003"]


@pytest.mark.parametrize("name", ["min_side", "max_aspect"])
@pytest.mark.parametrize("width", [10**400, -1, 0, True, "20", None, [20], float("inf"), float("nan")])
def test_sides_in_the_json_that_are_no_sizes(tmp_path, name, width):
    write_shards(tmp_path, of=lambda n: sample(n, width=width if n == 3 else 20))
    source = source_of(tmp_path, filter=f"{name} < 30")
    assert set(kept(source)) >= {n for n in range(24) if n != 3}
    assert len(source.rejects) <= 1


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**900) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
LEAVES = st.sampled_from(["a", "b", "c", "0", "1.5", "'x'", "[a, 1]", "1e308"])
OPERATORS = ["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "in", "not in", "and", "or"]
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(OPERATORS),
            inner,
        )
        | st.builds("(-{})".format, inner)
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, ANY_JSON, ANY_JSON, ANY_JSON)
def test_any_values_pass_or_do_not_or_are_rejected(expression, a, b, c):
    """Nothing else comes of an expression, whatever a sample holds."""
    values = json.loads(json.dumps({"a": a, "b": b, "c": c}))
    try:
        answer = Filter(expression).keeps(values.get)
    except RejectedItemError as error:
        answer = error.reason
    assert answer in (True, False, "filter cannot compare", "filter cannot compute")


def test_empty_cells_in_the_json_are_missing_values(tmp_path):
    """NaN, as tables leave it in the json, costs neither the caption nor the other fields."""
    empty = float("nan")

    def scored(n):
        return {"png": picture(n), "json": sample(n, score=empty if n == 3 else 1)["json"]}

    source = source_of(write_shards(tmp_path, of=scored), filter="width == 20")
    assert kept(source) == list(range(24))
    assert 3 not in kept(source_of(tmp_path, filter="score > 0"))


@pytest.mark.parametrize("data", [b'{"a": ', b"[1]", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_json_that_cannot_be_read_is_counted(tmp_path, data):
    write_shards(tmp_path, of=lambda n: {**sample(n), **({"json": data} if n == 3 else {})})
    source = source_of(tmp_path)
    assert kept(source) == list(range(24))
    assert source.rejects.notes == {"json of a sample that cannot be read": 1}


def test_a_filter_that_keeps_nothing_stops(tmp_path, monkeypatch):
    monkeypatch.setattr("sgxl_t.datasets.shards.counts.MAX_FILTERED", 50)
    source = source_of(write_shards(tmp_path), filter="width > 1000")
    with pytest.raises(ValueError, match="'width > 1000' keeps none of 50 samples"):
        next(source.stream(seed=0, part=0, parts=1))
