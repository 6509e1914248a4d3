"""Order of shard streams: epochs, weights, several readers, and going on after a stop."""

import itertools
from collections import Counter

import pytest
import torch
from tiny_shards import numbers_of, sample, write_shards

from sgxl_t.datasets import BatchOptions, batches, open_source
from sgxl_t.datasets.base import START
from sgxl_t.datasets.shards.source import ShardOptions


def source_of(place, *, reject_limit=0.1, **options):
    options = {"shuffle_samples": 8, **options}
    return open_source(place, resolution=16, reject_limit=reject_limit, shards=ShardOptions(**options))


def stream(source, count, *, part=0, parts=1, seed=0, mark=START):
    return list(itertools.islice(source.stream(seed=seed, part=part, parts=parts, mark=mark), count))


def numbers(source, count, **reader):
    return numbers_of(one for _, one in stream(source, count, **reader))


def read(place, count, *, workers=0, batch_size=5, position=None, seen=0, world_size=1, rank=0, **options):
    loader = batches(
        source_of(place, **options),
        BatchOptions(batch_size=batch_size, seed=3, rank=rank, world_size=world_size, num_workers=workers),
        images_seen=seen,
        position=position,
    )
    captions = [caption for batch in itertools.islice(loader, count) for caption in batch.captions]
    return captions, loader.position()


def test_order_is_a_function_of_the_seed(tmp_path):
    source = source_of(write_shards(tmp_path))
    assert numbers(source, 30) == numbers(source, 30)
    assert numbers(source, 30) != numbers(source, 30, seed=1)
    assert numbers(source, 24) != sorted(numbers(source, 24))


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize(("shards", "samples"), [(1, 8), (3, 8), (4, 6), (40, 2)])
def test_every_sample_once_per_epoch_over_all_readers(tmp_path, parts, shards, samples):
    source = source_of(write_shards(tmp_path, shards=shards, samples=samples))
    for epoch in range(2):
        seen: Counter[int] = Counter()
        for part in range(parts):
            for mark, one in source.stream(seed=0, part=part, parts=parts):
                if mark.epoch > epoch:
                    break
                if mark.epoch == epoch:
                    seen.update(numbers_of([one]))
        assert seen == Counter(range(shards * samples))


def test_two_ranks_of_two_workers_see_every_sample_of_an_epoch_once(tmp_path):
    """Three shards for four readers; 60 samples are 3 batches of 5 for each."""
    write_shards(tmp_path, shards=3, samples=20)
    seen = []
    for rank in range(2):
        seen += read(tmp_path, 6, workers=2, rank=rank, world_size=2)[0]
    assert Counter(seen) == Counter(f"sample {number}" for number in range(60))


def test_uneven_shares_change_from_epoch_to_epoch(tmp_path):
    source = source_of(write_shards(tmp_path, shards=17, samples=1))
    counts = [
        [
            sum(len(segment) for segment in source.order.segments(epoch, seed=0, part=part, parts=2))
            for part in (0, 1)
        ]
        for epoch in range(2)
    ]
    assert counts == [[9, 8], [8, 9]]


def test_weights_say_how_often_subsets_come(tmp_path):
    write_shards(tmp_path / "a", shards=3, samples=2)
    write_shards(tmp_path / "b", shards=1, samples=2, first=100)
    (tmp_path / "mix.txt").write_text("3 a\n1 b\n")
    drawn = numbers(source_of(tmp_path / "mix.txt"), 1600)
    share = sum(number >= 100 for number in drawn) / len(drawn)
    assert 0.2 < share < 0.3
    parts = [numbers(source_of(tmp_path / "mix.txt"), 50, part=part, parts=2) for part in (0, 1)]
    assert parts[0] != parts[1]


@pytest.mark.parametrize("order", ["epochs", "resample"])
@pytest.mark.parametrize("stop", [1, 13, 30, 61])
def test_a_reader_goes_on_from_its_mark(tmp_path, order, stop):
    source = source_of(write_shards(tmp_path, shards=12, samples=5), order=order)
    whole = stream(source, 90)
    assert stream(source, 90 - stop, mark=whole[stop - 1][0])[-1][0] == whole[-1][0]
    again = numbers(source, 90 - stop, mark=whole[stop - 1][0])
    assert again == numbers_of(one for _, one in whole[stop:])


def test_a_reader_goes_on_between_broken_filtered_and_mirrored_samples(tmp_path):
    def some_broken(number):
        files = sample(number, score=number)
        return {**files, "png": b"broken"} if number % 9 == 4 else files

    write_shards(tmp_path, of=some_broken, samples=12)
    source = open_source(
        tmp_path,
        resolution=16,
        mirror=True,
        reject_limit=0.2,
        shards=ShardOptions(shuffle_samples=8, filter="score > 5", caption_fields=("txt", "caption")),
    )
    whole = stream(source, 60)
    again = stream(source, 40, mark=whole[19][0])
    assert [one.caption for _, one in again] == [one.caption for _, one in whole[20:]]
    assert all(
        torch.equal(one.image, two.image) for (_, one), (_, two) in zip(again, whole[20:], strict=True)
    )
    assert {"sample", "json"} == {one.caption.split()[0] for _, one in whole}


def test_a_mark_is_reached_without_reading_pictures(tmp_path, monkeypatch):
    source = source_of(write_shards(tmp_path, shards=3, samples=40), shuffle_samples=16)
    mark = stream(source, 100)[-1][0]
    loaded = []
    monkeypatch.setattr("sgxl_t.datasets.shards.source.load", lambda group: loaded.append(1) or real(group))
    from sgxl_t.datasets.shards.tar.samples import load as real

    stream(source, 5, mark=mark)
    assert len(loaded) == 5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 4])
def test_a_loader_goes_on_where_it_was(tmp_path, workers, stop):
    write_shards(tmp_path, shards=5, samples=9)
    whole, _ = read(tmp_path, 9, workers=workers)
    first, position = read(tmp_path, stop, workers=workers)
    rest, _ = read(tmp_path, 9 - stop, workers=workers, position=position, seen=stop * 5)
    assert first + rest == whole


def test_other_readers_or_shards_begin_afresh(tmp_path, caplog):
    write_shards(tmp_path, shards=5, samples=9)
    first, position = read(tmp_path, 3)
    for change in ({"workers": 2}, {"order": "resample"}):
        caplog.clear()
        rest, after = read(tmp_path, 3, position=position, seen=15, **change)
        assert "begins afresh" in caplog.text
        assert after["base"] == 15
        assert rest != first


def test_workers_tell_what_they_reject_and_filter(tmp_path):
    def some_broken(number):
        return {**sample(number), "png": b""} if number == 7 else sample(number)

    write_shards(tmp_path, of=some_broken)
    source = source_of(tmp_path, filter="width > 10 and key != '000000003'")
    source.rejects.write(tmp_path / "rejects.jsonl")
    loader = batches(source, BatchOptions(batch_size=4, seed=0, num_workers=2))
    for _ in itertools.islice(loader, 16):
        pass
    assert source.rejects.by_reason() == {"no readable picture": 1}
    assert source.rejects.notes["left out by the filter"] >= 2
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_samples_stop_with_one_sentence(tmp_path, workers):
    write_shards(tmp_path, samples=60, of=lambda n: {**sample(n), "png": b"x"} if n % 3 else sample(n))
    with pytest.raises(ValueError, match=r"^\d+ of \d+ items were rejected .* limit of 10%"):
        read(tmp_path, 40, workers=workers)


def test_caption_dropout_is_a_function_of_the_position():
    source = open_source("emoji-scenes:4x4", resolution=16)
    options = BatchOptions(batch_size=50, seed=0, caption_dropout=0.3)
    empty = [not text for batch in itertools.islice(batches(source, options), 4) for text in batch.captions]
    assert 30 < sum(empty) < 90
    again = next(batches(source, options, images_seen=100))
    assert [not text for text in again.captions] == empty[100:150]
    with pytest.raises(ValueError, match="out of range"):
        batches(source, BatchOptions(batch_size=1, seed=0, caption_dropout=1.5))
