"""One value tells the networks about a batch's conditions, whatever wraps or maps it."""

import torch
from torch.utils._pytree import tree_leaves, tree_map

from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.text.tokens import TextBlend, TextTokens


def whole():
    values = torch.arange(24.0).view(4, 2, 3)
    tokens = TextTokens(values, values[:, :, 0] > 3)
    labels = torch.tensor([3, 1, 1, 0])
    vectors = {name: torch.randn(4, 5) for name in ("c", "target", "pictures")}
    own = torch.tensor([True, False] * 2)
    return Conditioning(tokens=tokens, guide=torch.randn(4, 2), own=own, labels=labels, **vectors)


def test_rows_are_those_of_every_part():
    cond = whole()
    first = cond.rows(slice(2))
    assert [len(x) for x in tree_leaves(first)] == [2] * 8
    assert torch.equal(first.tokens.values, cond.tokens.values[:2])
    picked = cond.rows(torch.tensor([3, 0]))
    assert picked.labels.tolist() == [0, 3]
    assert Conditioning().rows(slice(2)) == Conditioning()
    blend = TextBlend(cond.tokens, cond.tokens, torch.rand(4, 3))
    assert Conditioning(tokens=blend).rows(slice(1)).tokens.share.shape == (1, 3)


def test_frozen_leaves_out_what_only_the_generator_takes():
    cond = whole()
    frozen = cond.frozen
    assert frozen.c is frozen.target is cond.target
    assert frozen.tokens is None
    assert frozen.pictures is None
    assert frozen.own is None
    assert frozen.labels is cond.labels


def test_neighbours_are_the_targets_of_the_image_before():
    cond = as_conditioning(torch.tensor([5, 6, 7])).with_neighbours()
    assert cond.target.tolist() == [5, 6, 7, 7, 5, 6]
    assert cond.c.tolist() == [5, 6, 7]


def test_back_ends_see_the_tensors_inside_and_give_the_same_type_back():
    cond = whole()
    assert isinstance(tree_map(lambda x: x, cond), Conditioning)


def test_bare_conditions_do_in_place_of_a_conditioning():
    generator = build_generator("sgxl-tiny-16", ConditionSpec(kind="class", dim=4, num_classes=3), seed=0)
    z, labels = torch.randn(2, generator.z_dim), torch.tensor([2, 0])
    with torch.no_grad():
        assert torch.equal(generator(z, labels), generator(z, Conditioning(c=labels)))
