"""CSV and TSV: each row keeps its own caption, or is rejected with its line."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import captions, labels, look, opened, pictures, write_folder

from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.tables.delimited import Delimited

QUOTE_NOTE = "quote in a table that belongs to its text, taken as it stands"


def rows(text, tabs=False):
    """Rows of a table, and those that are rejected as their line and reason."""
    data = text if isinstance(text, bytes) else text.encode()
    table = Delimited(io.BytesIO(data), "t", Rejects(), tabs=tabs)
    return [
        (place, row.reason) if isinstance(row, RejectedItemError) else tuple(row.values())
        for place, row in table.rows()
    ]


def taken(tmp_path, name, text, count=4):
    files = pictures(*(f"{number}.png" for number in range(count)))
    return look(files | {name: text}, tmp_path)


@pytest.mark.parametrize("name", ["metadata.tsv", "metadata.csv"])
def test_a_quote_that_never_ends_takes_no_other_row(tmp_path, name):
    delimiter = "\t" if name.endswith("tsv") else ","
    texts = [('"tall mug' if number in (3, 18) else "mug") + f" number {number}" for number in range(200)]
    lines = [f"{number}.png{delimiter}{text}" for number, text in enumerate(texts)]
    source = taken(tmp_path, name, "\n".join([f"file_name{delimiter}text", *lines]), 200)
    assert captions(source) == {f"{number}.png": text for number, text in enumerate(texts)}
    assert source.rejects.notes == {QUOTE_NOTE: 2}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("a.png,a cat, sitting", "a cat, sitting"),
        ("a.png,a cat, sitting, in snow,", "a cat, sitting, in snow,"),
        ('a.png,"a cat, sitting"', "a cat, sitting"),
        ('a.png, "a cat, sitting"', "a cat, sitting"),
        ('a.png,"a ""big"" cat"', 'a "big" cat'),
        ('a.png,"big" cat', '"big" cat'),
        ('a.png,"big, cat', '"big, cat'),
        ('a.png,5" nails, new', '5" nails, new'),
        ("a.png,'a cat, sitting'", "'a cat, sitting'"),
        ("a.png,a cat,,", "a cat"),
        ('"a.png","a\ncat"', "a\ncat"),
        ('a.png,"one\ntwo, three\n\nfour"', "one\ntwo, three\n\nfour"),
    ],
)
@pytest.mark.parametrize("after", ["", "b.png,next\n", 'b.png,"next"\n'])
def test_commas_and_quotes_stay_in_their_row(row, text, after):
    found = rows(f"file_name,text\n{row}\n{after}")
    assert found == [("a.png", text)] + ([("b.png", "next")] if after else [])


def test_a_row_with_too_many_values_is_rejected_with_its_line(tmp_path):
    text = "file_name,text,label\n0.png,a cat,1\n1.png,a cat, sitting,1\n2.png,b,0\n3.png,c,0,\n"
    source = taken(tmp_path, "metadata.csv", text)
    assert captions(source) == {"0.png": "a cat", "2.png": "b", "3.png": "c"}
    assert sorted(source.rejects.items) == [
        ("1.png", "no caption", ""),
        ("metadata.csv:3", "row has more values than columns", "1.png,a cat, sitting,1"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "file_name;text\n0.png;a cat, sitting\n1.png;\"b; c\"\n",
        "sep=;\nfile_name;text\n0.png;a cat, sitting\n1.png;b; c\n",
        "\ufefffile_name,text\r\n0.png,\"a cat, sitting\"\r\n1.png,b; c\r\n",
        "file_name\ttext\n0.png\ta cat, sitting\n1.png\tb; c\n",
        "image_name| comment_number| comment\n0.png| 0| a cat, sitting\n1.png| 0| b; c\n",
        "file_name,text\r0.png,\"a cat, sitting\"\r1.png,b; c\r",
        "file_name,text,,\n0.png,\"a cat, sitting\",,\n1.png,b; c,,\n",
        "\ufefffile_name\ttext\r\n0.png\ta cat, sitting\r\n1.png\tb; c\r\n".encode("utf-16-le"),
    ],
    ids=["semicolons", "sep", "bom", "tabs in csv", "bars", "carriage returns", "empty columns", "utf-16"],
)  # fmt: skip
def test_what_spreadsheets_write(tmp_path, text):
    assert list(captions(taken(tmp_path, "metadata.csv", text, 2)).values()) == ["a cat, sitting", "b; c"]


def test_broken_bytes_reject_their_own_row(tmp_path):
    source = taken(tmp_path, "metadata.csv", "file_name,text\n0.png,café\n1.png,tea\n".encode("cp1252"), 2)
    assert captions(source) == {"1.png": "tea"}
    assert source.rejects.by_reason() == {"caption is not UTF-8": 1}


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["0", "1", "1", "2"], ("0", "1", "2")),
        (["0.0", "1.0", "1.0", "2."], ("0", "1", "2")),
        ([" cat", "dog ", "dog", "owl"], ("cat", "dog", "owl")),
    ],
)
def test_labels_of_tables(tmp_path, cells, classes):
    lines = [f"{number}.png,{cell}" for number, cell in enumerate(cells)]
    source = taken(tmp_path, "labels.csv", "\n".join(["file_name,label", *lines]))
    assert source.class_names == classes
    assert list(labels(source).values())[1:3] == [classes[1]] * 2


def test_a_label_of_minus_one_is_refused_as_in_json(tmp_path):
    with pytest.raises(ValueError, match=r"'1.png' is -1, and classes are numbered from 0"):
        taken(tmp_path, "labels.csv", "file_name,label\n0.png,0\n1.png,-1\n")


def test_long_lines_are_refused(tmp_path):
    place = write_folder(
        pictures("0.png") | {"metadata.csv": "file_name,text\n" + "x" * 2**21}, tmp_path / "d"
    )
    with pytest.raises(ValueError, match=r"metadata.csv, line 2 has more than 1048576 characters"):
        opened(place)


words = st.text(st.sampled_from("ab \"',;\t\n|"), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(words, min_size=1, max_size=8), st.booleans())
def test_what_pandas_writes_comes_back(texts, tabs):
    frame = pd.DataFrame({"file_name": [f"{i}.png" for i in range(len(texts))], "text": texts})
    written = frame.to_csv(index=False, sep="\t" if tabs else ",")
    found = rows(written, tabs)
    assert [row[0] for row in found] == list(frame["file_name"])
    # Spaces at the ends of a caption do not count.
    assert [row[1].strip() for row in found] == [text.strip() for text in texts]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.text(st.sampled_from("ab \"',;|"), max_size=12), min_size=1, max_size=8), st.booleans())
def test_rows_never_take_the_text_of_others(texts, tabs):
    """Whatever stands in them unquoted: every row is there once, under its own name."""
    delimiter = "\t" if tabs else ","
    lines = [f"{i}.png{delimiter}{text}{i}" for i, text in enumerate(texts)]
    found = rows("\n".join([f"file_name{delimiter}text", *lines]), tabs)
    assert [row[0] for row in found] == [f"{i}.png" for i in range(len(texts))]
    assert [row[1][-1] for row in found] == [str(i) for i in range(len(texts))]


def test_a_dialect_that_python_writes_comes_back():
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([["file_name", "text"], ["0.png", 'a "b"; c'], ["1.png", "d\ne"]])
    assert rows(buffer.getvalue()) == [("0.png", 'a "b"; c'), ("1.png", "d\ne")]
