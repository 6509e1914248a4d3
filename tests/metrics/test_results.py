"""Lines of results: what they say, which of them may stand side by side, and files that are whole."""

import csv
import json
import multiprocessing

import pytest

from sgxl_t.metrics.features.extractor_cache import ExtractorInfo
from sgxl_t.metrics.protocol import parse_metric
from sgxl_t.metrics.results import (
    COLUMNS,
    check_comparable,
    comparison,
    make_entry,
    over_seeds,
    read_results,
    write_csv,
    write_results,
)
from sgxl_t.metrics.runner import MetricResult


class Real:
    fingerprint, reference = "0123456789abcdef", "photos"


def record(metric="fid10k", value=5.0, *, model="a", weights="cafe", data="0123456789abcdef", **about):
    spec = parse_metric(metric)
    result = MetricResult(
        spec.name, value, None, "", spec, 100, ExtractorInfo(spec.extractor, weights, "tf1-bilinear-299")
    )
    real = Real()
    real.fingerprint = data
    said = {"model": model, "model_hash": model * 16, "psi": 1.0, "sampler_seed": 0, "sampling": "uniform"}
    return make_entry(result, {**said, **about}, real, (64, 64))


def test_a_record_says_how_its_number_was_made():
    made = record()
    assert made["metric"] == "fid10k_full"
    assert (made["n_fake"], made["n_real"], made["ddof"]) == (10_000, 100, 1)
    assert (made["extractor"], made["extractor_hash"]) == ("inception", "cafe")
    assert made["code_version"]
    assert len(made["protocol"]) == 16
    missing = {"std", "std_over", "seeds", "prompts", "note"}
    assert set(COLUMNS) - made.keys() <= missing
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"metric": "fid50k"}, "generated pictures: 10000 and 50000"),
        ({"weights": "beef"}, "weights of the extractor: cafe and beef"),
        ({"data": "f" * 16}, "fingerprint of the data"),
        ({"metric": "fid10k_vs_50"}, "protocols|metric"),
        ({"sampling": "balanced"}, "sampling: uniform and balanced"),
    ],
)
def test_numbers_of_different_protocols_are_refused(other, named):
    with pytest.raises(ValueError, match=named) as caught:
        comparison([record(), record(**{"model": "b", **other})])
    assert "\n" not in str(caught.value)


def test_several_counts_of_one_model_may_stand_together():
    check_comparable([record(), record("fid50k")])
    check_comparable([record(), record("fid50k"), record("fid50k", model="b")])
    check_comparable([record(), record("sfid10k", model="b")])
    check_comparable([record(), record(model="pictures", sampling="pictures", psi=None)])


def test_the_table_marks_the_better_model_by_direction():
    table = comparison(
        [record(), record(value=4.0, model="b"), record("is", 7.0), record("is", 6.0, model="b")]
    ).splitlines()
    assert table[0].split() == ["metric", "a", "b"]
    assert table[1].split() == ["fid10k_full", "5", "4", "*"]
    assert table[2].split() == ["is50k", "7", "*", "6"]
    assert any("inception cafe" in line and "protocol" in line for line in table[3:])


def test_repeats_give_mean_and_spread():
    (joined,) = over_seeds([[record(value=value, sampler_seed=seed)] for seed, value in enumerate((4, 5, 6))])
    assert (joined["value"], joined["std"], joined["std_over"]) == (5, 1, "seeds")
    assert (joined["seeds"], joined["values"]) == ([0, 1, 2], [4, 5, 6])


def test_files_keep_other_lines_and_replace_the_same_ones(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [record(), record(model="b")])
    write_results(path, [record(value=3.0)])
    assert [(line["model"], line["value"]) for line in read_results(path)] == [("b", 5.0), ("a", 3.0)]
    write_csv(tmp_path / "results.csv", read_results(path))
    with (tmp_path / "results.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["b", "a"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.csv", "results.jsonl"]


def _write_one(path, model):
    write_results(path, [record(model=model)])


def test_processes_that_write_to_one_file_leave_the_lines_of_all(tmp_path):
    path, names = tmp_path / "results.jsonl", [f"m{number}" for number in range(24)]
    with multiprocessing.get_context("fork").Pool(6) as pool:
        pool.starmap(_write_one, [(path, name) for name in names], chunksize=1)
    assert sorted(line["model"] for line in read_results(path)) == sorted(names)
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("content", ["{", "[]", '{"metric": "fid"}', "3"])
def test_other_files_are_no_results(tmp_path, content):
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="no results file"):
        write_results(path, [record()])
    assert path.read_text() == content
