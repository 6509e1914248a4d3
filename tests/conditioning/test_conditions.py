from types import SimpleNamespace

import pytest
import torch
from tiny_models import PETS, tiny_clip
from torch import nn

from sgxl_t.conditioning import ClassCondition, NoCondition, TextCondition, build_condition, class_table
from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.networks.condition_input import ConditionInput


class Painted(ImageSource):
    """Twelve plain pictures in three classes whose brightness tells the class; captions when wanted."""

    def __init__(self, names=("dark", "grey", "bright"), captions=False):
        super().__init__(resolution=8, class_names=names, has_captions=captions)

    def _count(self):
        return 12

    def _read(self, index):
        label = index % 3
        image = torch.full((3, 8, 8), 40 + 80 * label + index // 3, dtype=torch.uint8)
        return Sample(image, label, "a fox")

    def fingerprint(self):
        return "0" * 16


class Pools(nn.Module):
    """Stands in for a feature network: mean colour, its double, and a constant."""

    def pooled(self, images):
        mean = images.mean((1, 2, 3))
        return torch.stack([mean, 2 * mean, torch.ones_like(mean)], dim=1)


def test_each_condition_says_what_it_brings():
    text = TextCondition(tiny_clip())
    trained = TextCondition(tiny_clip(), trainable=True)
    labels = ClassCondition(PETS, dim=8)
    assert [c.kind for c in (labels, text, NoCondition())] == ["class", "text", "none"]
    assert [c.guidance for c in (labels, text, NoCondition())] == ["classifier", "clip", None]
    assert (labels.spec.dim, labels.spec.num_classes, text.spec.dim) == (8, 4, 16)
    assert text.phases == ("generator",)
    assert trained.phases == ("generator", "text_encoder")


def test_labels_and_names_encode_to_the_same_int64():
    condition = ClassCondition(PETS, dim=8)
    assert torch.equal(
        condition.encode(["dog", "car"]).c, condition.encode(torch.tensor([1, 3], dtype=torch.int32)).c
    )
    assert condition.encode([2]).c.dtype == torch.int64


def test_classes_with_the_same_name_keep_their_numbers_in_labels():
    condition = ClassCondition(("crane", "fox, red", "crane"))
    assert [condition.label(index) for index in range(3)] == ["0 crane", "fox", "2 crane"]


def test_class_table_is_standardised_and_ordered_like_the_pictures():
    table = class_table(Painted(), Pools(), batch_size=5)
    assert table.shape == (3, 3)
    assert table.dtype == torch.float32
    torch.testing.assert_close(table.mean(0), torch.zeros(3))
    torch.testing.assert_close(table[:, :2].square().mean(0), torch.ones(2))
    assert torch.equal(table[:, 2], torch.zeros(3)), "a constant feature is not blown up"
    assert table[0, 0] < table[1, 0] < table[2, 0]


def test_class_table_does_not_depend_on_the_batch_size():
    torch.testing.assert_close(class_table(Painted(), Pools(), batch_size=1), class_table(Painted(), Pools()))


def test_class_without_pictures_starts_at_the_mean_of_the_others():
    table = class_table(Painted(("dark", "grey", "bright", "missing")), Pools())
    assert torch.equal(table[3], torch.zeros(3))
    torch.testing.assert_close(table[:3].mean(0), torch.zeros(3))


def test_pretrained_table_reaches_every_table_and_each_trains_on_its_own():
    condition = build_condition("class", Painted(), class_network=Pools())
    generator, heads = nn.ModuleList([ConditionInput(condition.spec)]), nn.ModuleList()
    heads.extend(ConditionInput(condition.spec) for _ in range(2))
    assert condition.init_tables(generator, heads) == 3
    assert torch.equal(generator[0].embed.weight, condition.table)
    with torch.no_grad():
        heads[0].embed.weight.zero_()
    assert torch.equal(heads[1].embed.weight, condition.table)
    assert heads[1].embed.weight.requires_grad


def test_without_a_pretrained_table_the_random_start_stays():
    condition = ClassCondition(PETS, dim=8)
    module = ConditionInput(condition.spec)
    before = module.embed.weight.clone()
    assert condition.init_tables(module) == 0
    assert torch.equal(module.embed.weight, before)


def test_captions_encode_to_unit_vectors_and_each_is_encoded_once():
    condition = TextCondition(tiny_clip())
    c = condition.encode(["a red fox", "a blue car", "a red fox"]).c
    torch.testing.assert_close(c.norm(dim=1), torch.ones(3))
    assert torch.equal(c[0], c[2])
    assert not c.requires_grad
    condition.original.encode_text = None
    assert torch.equal(condition.encode(["a blue car"]).c[0], c[1])


def test_targets_and_generator_share_one_pass_of_the_frozen_tower():
    condition, reads = TextCondition(tiny_clip()), []
    read = condition.original.encode_text
    condition.original.encode_text = lambda texts: (reads.append(list(texts)), read(texts))[1]
    frozen = condition.encode_frozen(["a red fox", "a blue car"])
    cond = condition.encode(["a red fox", "a blue car"], frozen)
    assert cond.c is cond.target is frozen.target
    assert cond.tokens is None
    assert torch.equal(condition.encode(["a red fox", "a blue car"]).c, frozen.target)
    condition.encode_frozen(["a blue car", "a red car"])  # the next batch repeats a caption
    assert reads == [["a red fox", "a blue car"], ["a red car"]]


def test_trained_text_tower_conditions_the_generator_and_never_the_targets():
    condition = TextCondition(tiny_clip(), trainable=True)
    prompts = ["a red fox", "a blue car"]
    before = condition.encode_frozen(prompts).target
    torch.testing.assert_close(condition.encode(prompts).c, before)
    optimizer = torch.optim.SGD(condition.trainable_parameters(), lr=1.0)
    condition.encode(prompts).c[0, 0].backward()
    optimizer.step()
    cond = condition.encode(prompts, condition.encode_frozen(prompts))
    assert torch.equal(cond.target, before)
    assert torch.equal(cond.guide, before)
    assert torch.equal(cond.frozen.c, before)
    assert not torch.allclose(cond.c, before)
    assert not cond.target.requires_grad
    assert condition.encode(prompts).target is None
    assert condition.encoder is condition.own


def test_trained_tower_that_is_saved_is_the_one_sampling_uses(tmp_path):
    from sgxl_t.networks.frozen import load_clip

    condition = TextCondition(tiny_clip(), trainable=True)
    with torch.no_grad():
        for parameter in condition.own.text_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    condition.encoder.save_text(tmp_path / "text")
    loaded = TextCondition(load_clip(f"local:{tmp_path / 'text'}", text_only=True))
    torch.testing.assert_close(loaded.encode(["a red fox"]).c, condition.encode(["a red fox"]).c)
    assert not torch.allclose(loaded.encode(["a red fox"]).c, condition.encode_frozen(["a red fox"]).c)


@pytest.mark.parametrize(
    ("kind", "request_", "sentence"),
    [
        ("text", "", "a prompt is empty"),
        ("text", [], "there is no prompt"),
        ("text", [3], "3 is no prompt"),
        ("text", "fox " * 3000, "is too long"),
        ("class", None, "none is named: choose from 0 fox, 1 dog"),
        ("none", "a fox", "the model is unconditional"),
    ],
)
def test_requests_that_do_not_fit_are_one_sentence(kind, request_, sentence):
    condition = {"text": TextCondition(tiny_clip()), "class": ClassCondition(PETS), "none": NoCondition()}[
        kind
    ]
    with pytest.raises(ValueError, match=sentence):
        condition.resolve(request_)


def test_condition_that_the_data_cannot_serve_is_refused():
    with pytest.raises(ValueError, match="no class labels"):
        build_condition("class", Painted(names=None))
    with pytest.raises(ValueError, match="no captions"):
        build_condition("text", Painted(), clip=tiny_clip())
    with pytest.raises(ValueError, match="needs a text encoder"):
        build_condition("text", Painted(captions=True))
    empty = SimpleNamespace(images=torch.zeros(2, 3, 8, 8), labels=None, captions=None)
    with pytest.raises(ValueError, match="no labels"):
        ClassCondition(PETS).from_batch(empty)
    with pytest.raises(ValueError, match="no captions"):
        TextCondition(tiny_clip()).from_batch(empty)
    assert NoCondition().from_batch(empty) == [None, None]
