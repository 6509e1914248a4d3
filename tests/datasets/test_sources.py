"""Digits, emoji-scenes, and the batches drawn from any source."""

import itertools

import numpy as np
import pytest
import torch

from sgxl_t.datasets import Batch, BatchOptions, batches, open_source
from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes, is_held_out
from sgxl_t.datasets.embedded.scene_captions import with_article
from sgxl_t.datasets.embedded.sprites import COLOURS, load_sprites, tint


def take(source, count, *, images_seen=0, **options):
    options = BatchOptions(**{"batch_size": 8, "seed": 3} | options)
    return list(itertools.islice(batches(source, options, images_seen=images_seen), count))


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and a.captions == b.captions and torch.equal(a.labels, b.labels)


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", resolution=16)


def test_digits_split_is_stratified_and_disjoint(digits):
    test = open_source("digits", resolution=16, split="test")
    assert (len(digits), len(test)) == (1437, 360)
    assert set(np.bincount([test[i].label for i in range(360)])) <= {35, 36, 37}
    train = {digits[i].image.numpy().tobytes() for i in range(len(digits))}
    held_out = [test[i].image.numpy().tobytes() for i in range(360)]
    assert sum(image in train for image in held_out) < 3  # a few scans of the set are equal
    assert digits[0].image.shape == (3, 16, 16)
    assert digits[0].image.dtype == torch.uint8
    assert digits.fingerprint() != test.fingerprint()


def test_mirrored_half_follows_the_whole(digits):
    doubled = open_source("digits", resolution=16, mirror=True)
    assert len(doubled) == 2 * len(digits)
    assert torch.equal(doubled[1437 + 5].image, digits[5].image.flip(-1))
    assert doubled[1437 + 5].label == digits[5].label


def test_batches_are_a_function_of_seed_and_images_seen(digits):
    straight = take(digits, 6)
    resumed = take(digits, 3, images_seen=24)
    assert all(same(a, b) for a, b in zip(straight[3:], resumed, strict=True))
    assert not same(straight[0], take(digits, 1, seed=4)[0])
    assert same(straight[0], take(digits, 1, num_workers=1)[0])


def test_ranks_share_the_order_of_one_process(digits):
    whole = take(digits, 2, batch_size=16)
    ranks = [take(digits, 2, rank=rank, world_size=2) for rank in range(2)]
    for step in range(2):
        together = torch.cat([ranks[0][step].images, ranks[1][step].images])
        assert torch.equal(together, whole[step].images)


def test_every_picture_comes_once_per_pass(digits):
    small = open_source("digits", resolution=4, split="test")
    labels = torch.cat([batch.labels for batch in take(small, 45)])
    assert torch.equal(labels.bincount(), torch.tensor([small[i].label for i in range(360)]).bincount())


def test_scenes_are_the_same_every_time():
    a, b = (EmojiScenes("24x8", resolution=32) for _ in range(2))
    for index in (0, 17, 4321):
        assert torch.equal(a[index].image, b[index].image)
        assert a[index].caption == b[index].caption
    assert a.fingerprint() == b.fingerprint()
    assert not torch.equal(a[0].image, EmojiScenes("24x8", seed=1)[0].image)


def test_a_quarter_of_the_pairs_is_held_out_evenly():
    pairs = np.array([[is_held_out(thing, scene) for scene in range(8)] for thing in range(24)])
    assert pairs.sum() == 48
    assert set(pairs.sum(0)) == {6}
    assert set(pairs.sum(1)) == {2}
    assert not is_held_out(0, 0)


def test_held_out_pairs_never_occur_in_training():
    splits = {name: EmojiScenes("24x8", split=name) for name in ("train", "test", "held_out")}
    assert [len(source) for source in splits.values()] == [8000, 2000, 960]
    seen = {name: {source.attributes(i)[:2] for i in range(len(source))} for name, source in splits.items()}
    assert seen["train"] == seen["test"]
    assert len(seen["train"]) == 144
    assert len(seen["held_out"]) == 48
    assert not seen["train"] & seen["held_out"]


def test_captions_name_what_the_picture_shows():
    source = EmojiScenes("24x8", resolution=16)
    forms = set()
    for index in range(300):
        sample = source[index]
        thing, _, size = source.attributes(index)
        names = source.sprites[thing].names
        assert sample.label == thing
        assert any(name in sample.caption for name in names)
        small = any(f" {word} " in sample.caption for word in ("small", "little", "tiny"))
        assert small == (source.attribute_values["size"][size] == "small")
        forms.add(sample.caption.split()[0])
    assert len(forms) > 5
    foxes = [i for i in range(len(source)) if source.attributes(i)[:2] == (0, 0)]
    captions = {source[i].caption for i in foxes}
    assert any("red fox in" in caption and "snow" in caption for caption in captions)


def test_prompts_of_attribute_tuples():
    source = EmojiScenes("24x8", split="held_out")
    tuples = source.attribute_tuples()
    assert len(tuples) == 96
    assert len({source.prompt(attributes) for attributes in tuples}) == 96
    assert source.prompt((0, 0, 1)) == "a small fox in snow"
    assert tuple(source.attribute_values) == ("object", "scene", "size")


def test_small_things_cover_less_of_the_picture():
    source = EmojiScenes("4x8", resolution=64)
    area = {0: [], 1: []}
    for index in range(400):
        attributes = source.attributes(index)
        if source.attribute_values["scene"][attributes[1]] == "plain" and attributes[0] == 1:
            image = source[index].image.float()
            area[attributes[2]].append(float(((image - image[:, :1, :1]).abs().amax(0) > 40).float().mean()))
    assert min(area[0]) > 2 * max(area[1])


def test_whole_set_adds_tints_and_night():
    source = EmojiScenes(resolution=32)
    attributes = [source.attributes(i) for i in range(400)]
    assert 250 <= source.num_classes <= 320
    assert 0.3 < np.mean([entry[3] > 0 for entry in attributes]) < 0.5
    blue = next(
        i for i, entry in enumerate(attributes) if source.attribute_values["colour"][entry[3]] == "blue"
    )
    assert " blue " in source[blue].caption
    assert source.prompt((10, 1, 1, 5, 1)) == "a small blue car on a beach at night"


@pytest.mark.parametrize("resolution", [8, 16, 64, 128])
def test_scenes_at_other_resolutions_show_the_same(resolution):
    source, reference = EmojiScenes("24x8", resolution=resolution), EmojiScenes("24x8", resolution=64)
    image, other = source[3].image.float(), reference[3].image.float()
    assert image.shape == (3, resolution, resolution)
    small = torch.nn.functional.adaptive_avg_pool2d
    assert (small(image, 4) - small(other, 4)).abs().mean() < 12


def test_tint_moves_a_sprite_to_its_colour():
    pixels = np.asarray(tint(load_sprites()[10].image, "blue")).astype(float)
    mean = pixels[pixels[..., 3] > 200].mean(0)
    assert mean[2] > 1.4 * mean[0]
    assert all(name.isalpha() for name in COLOURS)


def test_sprites_have_distinct_names():
    names = [sprite.name for sprite in load_sprites()]
    assert len(set(names)) == len(names)
    assert all(sprite.uncoloured_names for sprite in load_sprites())


@pytest.mark.parametrize(
    ("phrase", "expected"), [("owl", "an owl"), ("unicorn", "a unicorn"), ("hourglass", "an hourglass")]
)
def test_articles(phrase, expected):
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ("digits", {"resolution": 48}, "power of two"),
        ("digits", {"resolution": 16, "split": "validation"}, "no split"),
        ("emoji-scenes:24", {"resolution": 32}, "24x8"),
        ("emoji-scenes:24x2", {"resolution": 32}, "4 to 8 scenes"),
        ("emoji-scenes:9999x8", {"resolution": 32}, "sprites"),
        ("nowhere/at/all", {"resolution": 32}, "does not exist"),
        ("digits", {"resolution": 16, "captions": "x.csv"}, "folder of pictures"),
    ],
)
def test_wrong_references_are_explained(reference, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(reference, **options)


def test_wrong_batch_settings_are_explained(digits):
    with pytest.raises(ValueError, match="rank below world_size"):
        batches(digits, BatchOptions(batch_size=4, seed=0, rank=2, world_size=2))
