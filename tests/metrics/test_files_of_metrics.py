"""Files that metrics read may hold anything: one sentence, or what they say."""

import copy
import json
import logging
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_results import record

from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.coco import draw_prompts, read_prompts, write_prompts
from sgxl_t.metrics.collect import FeatureCollection, FeatureFunction, FeatureRequest, SavedCollection
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.judges.judges import Judge
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.metrics.results import comparison, read_results, write_results

fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -1, 2**63, 1e999])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Paths of all values inside of a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def changed(data, value):
    """A JSON value with something else somewhere in it, or without it."""
    path = data.draw(st.sampled_from(sorted(places(value), key=repr)))
    if not path:
        return data.draw(anything)
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[path[-1]] = data.draw(anything)
    else:
        del inner[path[-1]]
    return value


def check(error, words):
    """One line, with these words in it."""
    assert words in str(error)
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)


COCO = {
    "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "a"}, {"id": 2, "image_id": 2, "caption": "b"}],
}


@fuzzed
@given(st.data())
def test_results_are_read_or_refused(tmp_path, data):
    path, made = tmp_path / "r.jsonl", record(seeds=[1, 2], std=0.1)
    path.write_text(json.dumps(changed(data, made)) + "\n" + json.dumps(made) + "\n")
    try:
        found = read_results(path)
    except ValueError as error:
        check(error, "is no results file")
        return
    try:
        assert "\x1b" not in comparison(found)
    except ValueError as error:
        check(error, "cannot be compared")
    write_results(path, [record(model="c")])
    assert len(read_results(path)) <= 3


@fuzzed
@given(st.data())
def test_captions_of_coco_are_read_or_refused(tmp_path, data):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(changed(data, COCO)))
    try:
        assert len(draw_prompts(path, count=3).prompts) == 3
    except ValueError as error:
        check(error, "captions_val2014.json")


@fuzzed
@given(st.data())
def test_lists_of_prompts_are_read_or_refused(tmp_path, data):
    source, path = tmp_path / "captions.json", tmp_path / "list.jsonl"
    source.write_text(json.dumps(COCO))
    written = write_prompts(source, path, count=3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    number = data.draw(st.integers(0, 3))
    lines[number] = changed(data, lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        assert read_prompts(path).prompts == written.prompts
    except ValueError as error:
        check(error, "name another file")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": "low"}, "value is text where a number"),
        ({"lower_is_better": None}, 'has no "lower_is_better"'),
        ({"n_fake": 10**400}, "n_fake is a huge number"),
        ({"seeds": [1, "x"]}, r"seeds\[1\] is text"),
        ({"note": {"a": 1}}, "note is a group of keys where text"),
    ],
)
def test_the_place_of_what_is_wrong_is_named(tmp_path, change, reason):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(record()) + "\n" + json.dumps(record() | change))
    with pytest.raises(ValueError, match=rf"r\.jsonl is no results file \(line 2:? {reason}") as error:
        read_results(path)
    check(error.value, "name another")


def test_lines_end_where_the_file_says(tmp_path):
    path = tmp_path / "r.jsonl"
    write_results(path, [record(model="odd\u2028\x85\x1b[31mname", note="two\u2028lines")])
    (found,) = read_results(path)
    assert found["model"] == "odd\u2028\x85\x1b[31mname"
    shown = comparison([found])
    assert "odd\\u2028\\x85\\x1b[31mname" in shown
    assert len(shown.splitlines()) == 5


@pytest.mark.parametrize("name", ["r.jsonl", "list.jsonl", "captions.json"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = {"r.jsonl": read_results, "list.jsonl": read_prompts, "captions.json": draw_prompts}[name]
    with pytest.raises(ValueError, match=r"is no results file|is missing"):
        read(tmp_path / name)


def broken(kind, facts):
    """Arrays of a file of features that are none of ours."""
    about = {"metadata": np.asarray(json.dumps(facts))}
    return {
        "other count": {"rows": np.zeros((5, 2), np.float32), **about},
        "one row": {"rows": np.zeros(4, np.float32), **about},
        "big-endian": {"rows": np.zeros((4, 2), ">f4"), **about},
        "infinite": {"rows": np.full((4, 2), np.inf, np.float32), **about},
        "no facts": {"rows": np.zeros((4, 2), np.float32)},
        "facts of another": {"rows": np.zeros((4, 2), np.float32), "metadata": np.asarray('{"a": 1}')},
        "facts that are none": {"rows": np.zeros((4, 2), np.float32), "metadata": np.asarray("[3]")},
        "facts of numbers": {"rows": np.zeros((4, 2), np.float32), "metadata": np.zeros(3)},
        "deep facts": {"rows": np.zeros((4, 2), np.float32), "metadata": np.asarray("[" * 10**5)},
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "other count",
        "one row",
        "big-endian",
        "infinite",
        "no facts",
        "facts of another",
        "facts that are none",
        "facts of numbers",
        "deep facts",
    ],
)
def test_broken_real_sides_are_named_and_made_again(tmp_path, caplog, kind):
    cache, need = RealCache(tmp_path), FeatureRequest("x", "pooled", "rows", 4)
    facts = cache.facts(RealImages(open_source("digits", resolution=16), "digits"), need, {"extractor": "x"})
    rows = torch.ones(4, 2)
    cache.store(facts, rows)
    assert torch.equal(cache.load(facts), rows)
    (path,) = tmp_path.iterdir()
    np.savez(path, **broken(kind, facts))
    with caplog.at_level(logging.WARNING):
        assert cache.load(facts) is None
    assert f"{path} is damaged" in caplog.text
    assert "\n" not in caplog.messages[-1]


STATE = {"key": "", "done": 4, "pieces": ["000000002", "000000004"]}


def unfinished(folder):
    """Work that was saved twice, and a collection for it that is empty."""
    requests = [FeatureRequest("x", "p", "rows", 6), FeatureRequest("x", "p", "moments", 6)]
    function = FeatureFunction(lambda _, at: {"p": torch.arange(4.0).view(2, 2) + at[0]}, {"p": 2})
    done, saved = FeatureCollection(requests, {"x": function}), SavedCollection(folder, {})
    for start in (0, 2):
        done.add([start, start + 1], torch.zeros(2, 3, 8, 8))
        saved.save(done)
    return FeatureCollection(requests, {"x": function}), SavedCollection(folder, {})


@fuzzed
@given(st.data())
def test_unfinished_work_goes_on_or_starts_over(tmp_path, data):
    fresh, saved = unfinished(tmp_path / "work")
    state = tmp_path / "work" / "state.json"
    state.write_text(json.dumps(changed(data, json.loads(state.read_text()))))
    saved.restore(fresh)
    assert (fresh.done > 0) == state.exists()
    if not fresh.done:
        assert all(not len(rows) for rows in fresh.rows.values())


def test_whole_unfinished_work_goes_on(tmp_path):
    fresh, saved = unfinished(tmp_path / "work")
    saved.restore(fresh)
    assert fresh.done == 4
    assert [len(rows) for rows in fresh.rows.values()] == [4]
    assert [one.n for one in fresh.statistics.values()] == [4]


@pytest.mark.parametrize("content", [np.zeros((2, 3), np.float32), np.zeros((2, 2)), np.zeros(2, np.float32)])
def test_unfinished_rows_of_another_shape_start_over(tmp_path, content):
    fresh, saved = unfinished(tmp_path / "work")
    np.save(tmp_path / "work" / "rows0-000000002.npy", content)
    saved.restore(fresh)
    assert fresh.done == 0
    assert not (tmp_path / "work").exists()


def test_statistics_of_too_many_features_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("sgxl_t.metrics.distances.feature_statistics.MAX_WIDTH", 3)
    FeatureStatistics(4).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="has 4 features, more than 3"):
        FeatureStatistics.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": 10**9}, "dim is 1000000000 where a whole number from 1 to 4096"),
        ({"widths": "wide"}, "widths is text where a list"),
        ({"attributes": {"object": "24"}}, "attributes.object is text"),
        ({"vocabulary": None}, 'has no "vocabulary"'),
        (None, "is null where a group of keys"),
    ],
)
def test_judges_of_wrong_facts_are_refused_before_they_are_built(tmp_path, change, words):
    facts = {
        "reference": "digits",
        "resolution": 16,
        "attributes": {"digit": 10},
        "dim": 8,
        "widths": [8, 8],
        "stem_stride": 1,
        "vocabulary": [],
    }
    path = tmp_path / "judge.safetensors"
    metadata = None if change is None else {"judge": json.dumps(facts | change)}
    save_file({"net.x": torch.zeros(1)}, path, metadata)
    with pytest.raises(ValueError, match="its facts") as error:
        Judge(path)
    check(error.value, words)
    save_file({"net.x": torch.zeros(1)}, path, {"judge": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"lacks the tensor trunk\.stem"):
        Judge(path)
