"""Images of one class stand together where `alike` asks for it, and nothing else about the order changes."""

import pytest
import torch
from PIL import Image

from sgxl_t.datasets.loading.loader import batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.loading.order import labels_in_order, shuffled
from sgxl_t.datasets.open import open_source


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_an_epoch_holds_every_image_once_in_stretches_sorted_by_class():
    labels = torch.arange(1003) % 7
    order = shuffled(1003, labels, 4, rng())
    assert sorted(order.tolist()) == list(range(1003))
    for stretch in order.split(28):
        of_classes = labels[stretch].unique_consecutive()
        assert len(of_classes) == len(of_classes.unique()), "each class stands once in a stretch"
    runs = labels[order].unique_consecutive(return_counts=True)[1]
    assert 3.2 < runs.double().mean() < 5.5
    assert not torch.equal(labels[order.split(28)[0]].unique_consecutive()[:3], torch.arange(3))


def test_the_order_is_a_function_of_the_seed_and_mixes_all_without_labels():
    labels = torch.arange(60) % 3
    assert torch.equal(shuffled(60, labels, 5, rng(1)), shuffled(60, labels, 5, rng(1)))
    assert not torch.equal(shuffled(60, labels, 5, rng(1)), shuffled(60, labels, 5, rng(2)))
    assert torch.equal(shuffled(60, None, 1, rng(1)), torch.randperm(60, generator=rng(1)))


@pytest.mark.parametrize("source", ["digits", "emoji-scenes:4x4", "emoji-worlds:4x4"])
def test_batches_hold_few_classes_and_go_on_where_they_were(source):
    opened = open_source(source, resolution=16)
    options = BatchOptions(batch_size=16, seed=3, alike=8)
    run = batches(opened, options)
    labels = [next(run).labels for _ in range(6)]
    mixed = batches(opened, BatchOptions(batch_size=16, seed=3))
    few = sum(len(one.unique()) for one in labels)
    assert few < sum(len(next(mixed).labels.unique()) for _ in range(6))
    assert torch.equal(next(batches(opened, options, images_seen=64)).labels, labels[4])


def test_mirrored_images_have_the_class_of_their_originals():
    plain, mirrored = (open_source("digits", resolution=16, mirror=mirror) for mirror in (False, True))
    labels = labels_in_order(mirrored, 2)
    assert labels.tolist() == [*plain.known_labels(), *plain.known_labels()]


def test_images_without_classes_are_refused(tmp_path):
    image = open_source("digits", resolution=16)[0].image
    for name in "abc":
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"data\.alike=4 puts images of one class together, and these have"):
        batches(open_source(str(tmp_path), resolution=16), BatchOptions(batch_size=2, seed=0, alike=4))
    with pytest.raises(ValueError, match=r"data\.alike=0 must be at least 1"):
        BatchOptions(batch_size=2, seed=0, alike=0)
