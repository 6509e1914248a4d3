"""The class table's numbers: means of the first pictures of each class, standardised over classes."""

import logging

import pytest
import torch
from torch import nn

from sgxl_t.conditioning import class_table
from sgxl_t.conditioning.class_table import rows_by_name
from sgxl_t.datasets.base import ImageSource, Sample


class Listed(ImageSource):
    """Gray pictures of one brightness each, with the labels given."""

    def __init__(self, pictures, classes=3):
        self.pictures, self.read = pictures, []
        super().__init__(resolution=8, class_names=tuple(f"class {n}" for n in range(classes)))

    def _count(self):
        return len(self.pictures)

    def _read(self, index):
        self.read.append(index)
        label, brightness = self.pictures[index]
        return Sample(torch.full((1, 8, 8), brightness, dtype=torch.uint8), label, None)

    def fingerprint(self):
        return "0" * 16


class Pool(nn.Module):
    """Brightness in [0, 1], and its square."""

    def __init__(self):
        super().__init__()
        self.batches, self.brightest = [], 0.0

    def pooled(self, images):
        assert images.shape[1:] == (3, 8, 8)
        assert 0 <= images.min() <= images.max() <= 1
        self.brightest = max(self.brightest, float(images.max()))
        self.batches.append(len(images))
        value = images.double().mean((1, 2, 3))
        return torch.stack([value, value.square(), torch.ones_like(value)], dim=1)


PICTURES = [(0, 0), (0, 51), (1, 102), (None, 9), (0, 255), (2, 204), (1, 153), (2, 0)]


def standardised(rows):
    rows = torch.tensor(rows, dtype=torch.float64)
    return ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()


def test_rows_are_standardised_means_of_each_class(caplog):
    values = {label: [b / 255 for one, b in PICTURES if one == label] for label in range(3)}
    rows = [[sum(v) / len(v), sum(x * x for x in v) / len(v)] for v in values.values()]
    network = Pool()
    table = class_table(Listed(PICTURES), network, batch_size=3)
    torch.testing.assert_close(table[:, :2], standardised(rows))
    assert torch.equal(table[:, 2], torch.zeros(3))
    assert network.batches == [3, 3, 1]
    assert network.brightest == 1
    assert not caplog.records
    table = class_table(Listed(PICTURES[:6]), Pool())  # a class of three, two of one
    torch.testing.assert_close(table[:, 0], standardised([[0.4], [0.4], [0.8]])[:, 0])


def test_the_first_pictures_of_a_class_count():
    source = Listed([*PICTURES, (0, 7)])
    table = class_table(source, Pool(), images_per_class=1)
    torch.testing.assert_close(table[:, 0], standardised([[0.0], [0.4], [0.8]])[:, 0])
    assert source.read == [0, 1, 2, 3, 4, 5], "once every class has its pictures, no more are read"
    more = class_table(Listed(PICTURES), Pool(), images_per_class=2)
    torch.testing.assert_close(more[:, 0], standardised([[0.1], [0.5], [0.4]])[:, 0])


def test_five_hundred_pictures_of_a_class_in_batches_of_sixty_four_unless_told_otherwise():
    network = Pool()
    class_table(Listed([(0, n % 256) for n in range(502)] + [(1, 3)], classes=2), network)
    assert network.batches == [64] * 7 + [53]
    network = Pool()
    class_table(
        Listed([(0, n % 256) for n in range(502)] + [(1, 3)], classes=2), network, images_per_class=None
    )
    assert sum(network.batches) == 503


def test_classes_without_pictures_and_features_without_spread_are_zero(caplog):
    with caplog.at_level(logging.WARNING):
        table = class_table(Listed([(0, 10), (2, 20)], classes=4), Pool())
    assert "2 of 4 classes have no picture" in caplog.text
    assert table[[1, 3]].eq(0).all()
    torch.testing.assert_close(table[[0, 2], 0], torch.tensor([-1.0, 1.0]))


class Nearly(Pool):
    """A large feature that differs by a ten-millionth of its size between classes, a small one by more."""

    def pooled(self, images):
        value = images.double().mean((1, 2, 3))
        return torch.stack([1e3 * (1 + 1e-7 * value), 1e-3 * (1 + 1e-4 * value)], dim=1)


def test_a_spread_below_a_millionth_of_the_feature_counts_as_none():
    table = class_table(Listed([(0, 0), (1, 255)], classes=2), Nearly())
    assert torch.equal(table[:, 0], torch.zeros(2))
    torch.testing.assert_close(table[:, 1], torch.tensor([-1.0, 1.0]))


def test_data_without_labels_are_refused():
    unlabelled = Listed(PICTURES)
    unlabelled.class_names = None
    with pytest.raises(ValueError, match="the data set has no class labels"):
        class_table(unlabelled, Pool())
    with pytest.raises(ValueError, match="no picture of the data has a label"):
        class_table(Listed([(None, 3)]), Pool())


def test_rows_follow_our_names_and_new_names_get_the_mean():
    rows = torch.tensor([[1.0, 4.0], [2.0, 8.0], [6.0, 0.0]])
    ours = rows_by_name(rows, ["a", "b", "c"], ["c", "new", "a"])
    torch.testing.assert_close(ours, torch.tensor([[6.0, 0.0], [3.0, 4.0], [1.0, 4.0]]))
