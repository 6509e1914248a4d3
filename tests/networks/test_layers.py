"""Shared layers: scale, multipliers, precision; the entrance of conditions."""

import pytest
import torch

from sgxl_t.networks.condition_input import ConditionInput, set_class_table
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.layers import FullyConnected, normalize_2nd_moment


def test_rows_get_unit_mean_square_and_zeros_stay_finite():
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)) * 7
    torch.testing.assert_close(normalize_2nd_moment(x).square().mean(dim=1), torch.ones(4))
    assert normalize_2nd_moment(torch.zeros(1, 10)).abs().max() == 0


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_learning_rate_multiplier_scales_the_pace_but_not_the_start(multiplier):
    torch.manual_seed(0)
    layer = FullyConnected(512, 256, lr_multiplier=multiplier, bias_init=1.0)
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    y = layer(x)
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert y.std().item() == pytest.approx(1.0, abs=0.05)
    expected = x @ (layer.weight * multiplier / 512**0.5).T + layer.bias * multiplier
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((256,), 64 * multiplier))


def test_leaky_relu_layer_applies_slope_and_gain():
    layer = FullyConnected(8, 5, act="lrelu", bias_init=-0.5)
    x = torch.randn(3, 8)
    linear = x @ (layer.weight / 8**0.5).T + layer.bias
    expected = torch.where(linear > 0, linear, 0.2 * linear) * 2**0.5
    torch.testing.assert_close(layer(x), expected)


def test_layer_without_bias_stores_none():
    layer = FullyConnected(8, 5, bias=False)
    assert list(layer.state_dict()) == ["weight"]
    assert layer(torch.zeros(2, 8)).abs().max() == 0


def test_layer_stays_in_float32_under_autocast():
    layer = FullyConnected(8, 5, act="lrelu")
    x = torch.randn(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(x), rtol=0, atol=0)


def test_class_condition_is_a_trainable_lookup():
    entrance = ConditionInput(ConditionSpec(kind="class", dim=6, num_classes=4))
    rows = torch.arange(24.0).view(4, 6)
    assert set_class_table(entrance, rows) == 1
    assert entrance.out_dim == 6
    y = entrance(torch.tensor([2, 2, 0]))
    torch.testing.assert_close(y, rows[[2, 2, 0]])
    y.sum().backward()
    assert entrance.embed.weight.grad[2].sum() == 12
    assert list(entrance.state_dict()) == ["embed.weight"]


def test_text_condition_passes_and_no_condition_is_none():
    c = torch.randn(3, 6)
    text = ConditionInput(ConditionSpec(kind="text", dim=6))
    assert text(c) is c
    assert not list(text.parameters())
    nothing = ConditionInput(ConditionSpec())
    assert nothing(None) is None
    assert nothing.out_dim == 0


@pytest.mark.parametrize(
    ("spec", "c", "words"),
    [
        (ConditionSpec(), torch.zeros(2, dtype=torch.long), "pass None"),
        (ConditionSpec(kind="class", dim=6, num_classes=4), None, "pass int64 labels"),
        (ConditionSpec(kind="class", dim=6, num_classes=4), torch.zeros(2, 4), "int64"),
        (ConditionSpec(kind="text", dim=6), torch.zeros(2, 5), r"\[N, 6\]"),
    ],
)
def test_wrong_condition_is_refused_in_one_sentence(spec, c, words):
    with pytest.raises(ValueError, match=words):
        ConditionInput(spec)(c)


@pytest.mark.parametrize(
    "spec",
    [ConditionSpec(kind="class", dim=6), ConditionSpec(kind="text"), ConditionSpec(kind="sound", dim=3)],
)
def test_impossible_condition_is_refused(spec):
    with pytest.raises(ValueError, match="condition"):
        ConditionInput(spec)


def test_class_table_of_another_shape_is_refused():
    entrance = ConditionInput(ConditionSpec(kind="class", dim=6, num_classes=4))
    with pytest.raises(ValueError, match="same classes"):
        set_class_table(entrance, torch.zeros(5, 6))
