"""Moments are exact, and the same however the rows are spread over batches, files and ranks."""

import json
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from metrics_golden import CASES, TENSORS

from sgxl_t.metrics.distances import feature_statistics as stats
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics


def statistics(*batches, dim=16, **options):
    result = FeatureStatistics(dim, **options)
    for batch in batches:
        result.update(batch)
    return result


def assert_equal(ours, theirs, rel=1e-12):
    assert ours.n == theirs.n
    for a, b in ((ours.mean, theirs.mean), (ours.m2, theirs.m2)):
        assert float((a - b).norm()) <= rel * float(b.norm())


@pytest.mark.golden
@pytest.mark.parametrize("batch", [1, 7, 64, 500])
@pytest.mark.parametrize("block", [1024, 64])
def test_golden_cov_large_offset(batch, block, monkeypatch):
    monkeypatch.setattr(stats, "_BLOCK", block)
    case, x = CASES["cov_large_offset"], torch.from_numpy(TENSORS["feat_offset"])
    ours = statistics(*x.split(batch)).covariance().numpy()
    error = np.linalg.norm(ours - TENSORS[case["expected"]]) / np.linalg.norm(TENSORS[case["expected"]])
    assert error < case["tolerance"]["rel_fro"]
    assert error < 1e-12


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_any_split_into_batches_gives_the_same(offset, monkeypatch):
    monkeypatch.setattr(stats, "_BLOCK", 32)
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset
    whole = statistics(x)
    centred = x - x.mean(dim=0)
    assert float((whole.m2 - centred.T @ centred).norm()) < 1e-9 * float(whole.m2.norm())
    for sizes in ([1] * 300, [299, 1], [0, 150, 0, 150], [31, 33, 64, 172]):
        assert_equal(statistics(*x.split(sizes)), whole, rel=1e-12 if offset < 1e6 else 1e-10)
    assert_equal(statistics(*x.split(50), shift=x[0]), whole, rel=1e-12 if offset < 1e6 else 1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types_are_summed_in_float64(dtype):
    x = torch.randn(100, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert_equal(statistics(x), statistics(x.double()), rel=1e-15)
    assert_equal(statistics(x.float().numpy()), statistics(x.double()), rel=1e-15)


def test_rows_held_back_are_not_those_of_the_caller():
    x = torch.ones(4, 16)
    held = statistics(x)
    x.zero_()
    assert float(held.mean.sum()) == 16


def test_statistics_merge_with_other_shifts_and_with_none():
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e3
    parts = [statistics(part) for part in x.split([10, 0, 289, 1])]
    merged = FeatureStatistics(16)
    for part in parts:
        assert merged.merge(part) is merged
    assert_equal(merged, statistics(x))
    merged.update(x)
    assert_equal(merged, statistics(x, x))


def test_nothing_merged_and_stored_leaves_the_shift_open(tmp_path):
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e6
    FeatureStatistics(16).merge(FeatureStatistics(16)).save(tmp_path / "a.npz")
    empty = FeatureStatistics.load(tmp_path / "a.npz")[0]
    empty.update(x)
    assert_equal(empty, statistics(x), rel=1e-15)


def test_without_a_process_group_nothing_is_reduced():
    x = statistics(torch.ones(3, 16))
    assert x.all_reduce() is x


SHARDS = {1: [[0, 500]], 2: [[0, 500], [500, 500]], 3: [[0, 7], [7, 7], [7, 500]]}


def _reduce_in_groups(rank, folder):
    """Rank `rank` of three processes that form a group of one, then of two, then of three."""
    x = torch.from_numpy(TENSORS["feat_offset"])
    for world, shards in SHARDS.items():
        if rank < world:
            store = f"file://{folder}/store{world}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
            shard = statistics(*x[slice(*shards[rank])].split(13))
            if rank == 1:
                shard.update(torch.full((2, 16), torch.nan))
            reduced = shard.all_reduce()
            reduced.save(folder / f"{world}_{rank}.npz")
            dist.destroy_process_group()


def test_one_two_and_three_ranks_agree_with_uneven_and_empty_shards(tmp_path):
    mp.spawn(_reduce_in_groups, args=(tmp_path,), nprocs=3)
    whole = statistics(torch.from_numpy(TENSORS["feat_offset"]))
    for world in SHARDS:
        ranks = [FeatureStatistics.load(tmp_path / f"{world}_{rank}.npz")[0] for rank in range(world)]
        for result in ranks:
            assert_equal(result, whole)
            assert torch.equal(result.m2, ranks[0].m2)
            assert result.nonfinite == (0 if world == 1 else 2)


def test_rows_that_are_not_finite_are_counted_and_refused():
    x = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    spoiled = x.clone()
    spoiled[3, 5], spoiled[4], spoiled[9, 0] = torch.nan, torch.inf, -torch.inf
    ours = statistics(spoiled)
    assert (ours.n, ours.nonfinite) == (7, 3)
    for act in (ours.check, ours.covariance):
        with pytest.raises(ValueError, match="3 of 10 feature rows hold NaN"):
            act()
    assert statistics(x).merge(ours).nonfinite == 3


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_covariance(count):
    with pytest.raises(ValueError, match=f"features of {count} pictures"):
        statistics(torch.zeros(count, 16)).covariance()


def test_widths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 5\).*\[N, 16\]"):
        statistics(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="16 and of 5"):
        statistics(torch.zeros(3, 16)).merge(FeatureStatistics(5))


def test_files_hold_everything_and_more_rows_may_follow(tmp_path):
    x = torch.from_numpy(TENSORS["feat_offset"])
    path = tmp_path / "new" / "a.npz"
    first = statistics(x[:300])
    first.nonfinite = 4
    first.save(path, {"extractor": "toy", "rows": [1, 2]})
    loaded, metadata = FeatureStatistics.load(path)
    assert metadata == {"extractor": "toy", "rows": [1, 2]}
    assert (loaded.nonfinite, torch.equal(loaded.m2, first.m2)) == (4, True)
    loaded.update(x[300:])
    assert_equal(loaded, statistics(x))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.npz"
    statistics(torch.ones(3, 16)).save(path)
    with pytest.raises(TypeError):
        statistics(torch.ones(5, 16)).save(path, {"bad": object()})
    assert [FeatureStatistics.load(path)[0].n, list(tmp_path.iterdir())] == [3, [path]]


def _damage(path, kind):
    arrays = dict(np.load(path))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "text":
        path.write_text("not moments")
    elif kind == "compressed":
        np.savez_compressed(path, **arrays)
    else:
        changes = {
            "pickled": {"n": np.array({"n": 3}, dtype=object)},
            "missing": {"mean": None},
            "misshapen": {"m2": arrays["m2"][:3]},
            "infinite": {"mean": arrays["mean"] * np.inf},
            "metadata": {"metadata": np.asarray("{")},
        }
        arrays.update(changes[kind])
        np.savez(
            path, allow_pickle=True, **{key: value for key, value in arrays.items() if value is not None}
        )


@pytest.mark.parametrize(
    "kind", ["cut", "text", "compressed", "pickled", "missing", "misshapen", "infinite", "metadata"]
)
def test_damaged_and_hostile_files_are_refused(kind, tmp_path):
    path = tmp_path / "a.npz"
    statistics(torch.ones(3, 16)).save(path)
    _damage(path, kind)
    with pytest.raises(ValueError, match="holds no saved moments"):
        FeatureStatistics.load(path)


def test_the_file_is_readable_without_this_package(tmp_path):
    statistics(torch.ones(3, 16)).save(tmp_path / "a.npz", {"a": 1})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert (int(file["n"]), json.loads(str(file["metadata"]))) == (3, {"a": 1})
    assert zipfile.is_zipfile(tmp_path / "a.npz")
