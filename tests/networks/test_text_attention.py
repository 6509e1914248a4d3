"""Attention to a caption's tokens: no effect at the start, the formula, masks, gradients, refusals."""

from dataclasses import replace

import pytest
import torch

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.text_attention import TextAttention
from sgxl_t.networks.text.tokens import TextBlend, TextTokens

TEXT = ConditionSpec(kind="text", dim=6, token_dim=10)
SIZES = StyleGANTConfig(channel_base=128, channel_max=16, num_res_blocks=1, norm_groups=4)


def built(resolutions=(8, 16), condition=TEXT):
    torch.manual_seed(0)
    sizes = replace(SIZES, attention_resolutions=resolutions)
    config = GeneratorConfig(family="stylegan_t", img_resolution=16, z_dim=8, stylegan_t=sizes)
    return Generator(config, condition)


def inputs(length=5):
    draw = torch.Generator().manual_seed(1)
    z, c = torch.randn(3, 8, generator=draw), torch.randn(3, 6, generator=draw)
    return z, c, torch.randn(3, length, 10, generator=draw)


def pair():
    """The network without attention and with it, of one seed."""
    return built(()), built()


def with_effect():
    """A network whose attention counts."""
    generator = built()
    with torch.no_grad():
        for name, value in generator.named_parameters():
            if name.endswith("attention.scale"):
                value.fill_(0.5)
    return generator


def test_one_seed_starts_as_the_network_without_it_bit_for_bit():
    plain, attending = pair()
    z, c, tokens = inputs()
    weights = attending.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in built(()).state_dict().items())
    assert torch.equal(
        plain(z, c, noise_mode="const"), attending(z, Conditioning(c, TextTokens(tokens)), noise_mode="const")
    )


def test_gradient_reaches_every_scale_at_the_start_and_the_rest_afterwards():
    _, attending = pair()
    z, c, tokens = inputs()
    names = [name for name, _ in attending.named_parameters() if name.endswith("attention.scale")]
    assert len(names) == 2
    for step in range(2):
        attending.zero_grad()
        attending(z, Conditioning(c, TextTokens(tokens)), noise_mode="const").square().mean().backward()
        parameters = dict(attending.named_parameters())
        for name in names:
            assert parameters[name].grad.abs().sum() > 0
            side = name.removesuffix("scale")
            for layer in ("query", "key", "value", "out"):
                moved = parameters[f"{side}{layer}.weight"].grad.abs().sum() > 0
                assert bool(moved) == (step == 1)
            with torch.no_grad():
                parameters[name].fill_(0.1)


def test_attends_by_distance_to_the_tokens_that_count():
    torch.manual_seed(0)
    layer = TextAttention(8, 10)
    torch.nn.init.ones_(layer.scale)
    x, (_, _, tokens) = torch.randn(3, 8, 4, 4), inputs()
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True] + [False] * 4])
    y = layer(x, TextTokens(tokens, mask))
    for n in range(3):
        words = torch.nn.functional.layer_norm(tokens[n, mask[n]], (10,))
        pixel = torch.nn.functional.layer_norm(x[n, :, 1, 2], (8,))
        distance = (layer.query(pixel[None]) - layer.key(words)).square().sum(1)
        weights = torch.softmax(-distance / 8**0.5, dim=0)
        expected = x[n, :, 1, 2] + layer.out(weights[None] @ layer.value(words))[0]
        torch.testing.assert_close(y[n, :, 1, 2], expected)


def test_padding_does_not_count():
    attending = with_effect()
    z, c, tokens = inputs(7)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[:, 5:] = False
    short = attending(z, Conditioning(c, TextTokens(tokens[:, :5])), noise_mode="const")
    long = attending(z, Conditioning(c, TextTokens(tokens, mask)), noise_mode="const")
    torch.testing.assert_close(short, long)
    assert not torch.allclose(short, attending(z, Conditioning(c, TextTokens(tokens)), noise_mode="const"))


def test_blocks_do_not_start_alike():
    generator = built()
    low, high = generator.synthesis.b8.attention, generator.synthesis.b16.attention
    assert not torch.equal(low.query.weight[:8, :8], high.query.weight[:8, :8])
    assert not torch.equal(low.query.weight, low.out.weight)


def test_a_blend_is_one_caption_at_each_end_and_moves_evenly_between():
    torch.manual_seed(0)
    layer = TextAttention(8, 10)
    torch.nn.init.ones_(layer.scale)
    x, (_, _, tokens) = torch.randn(3, 8, 4, 4), inputs()
    first, last = TextTokens(tokens), TextTokens(tokens.flip(0)[:, :2])
    ends = layer(x, first), layer(x, last)
    mixed = layer(x, TextBlend(first, last, torch.tensor([0.0, 1.0, 0.25])))
    assert torch.equal(mixed[0], ends[0][0])
    assert torch.equal(mixed[1], ends[1][1])
    torch.testing.assert_close(mixed[2], 0.75 * ends[0][2] + 0.25 * ends[1][2])


def test_every_block_has_its_own_share():
    generator = with_effect()
    z, c, tokens = inputs()
    first, last = TextTokens(tokens), TextTokens(tokens.flip(0))

    def drawn(*share):
        blend = TextBlend(first, last, torch.tensor([share] * 3))
        return generator(z, Conditioning(c, blend), noise_mode="const")

    assert torch.equal(drawn(0.0, 0.0), generator(z, Conditioning(c, first), noise_mode="const"))
    assert torch.equal(drawn(1.0, 1.0), generator(z, Conditioning(c, last), noise_mode="const"))
    assert not torch.allclose(drawn(1.0, 0.0), drawn(0.0, 0.0))
    assert not torch.allclose(drawn(1.0, 0.0), drawn(1.0, 1.0))
    assert generator.synthesis.last_layers() == [2, 5]


def test_half_precision_keeps_the_start_exact():
    layer = TextAttention(8, 10)
    x, (_, _, tokens) = torch.randn(3, 8, 4, 4).bfloat16(), inputs()
    assert torch.equal(layer(x, TextTokens(tokens)), x)


def test_path_length_differentiates_twice():
    _, attending = pair()
    z, c, tokens = inputs()
    noise = torch.randn(3, 3, 16, 16) / 16
    _, lengths = attending(z, Conditioning(c, TextTokens(tokens)), noise_mode="const", pl_noise=noise)
    lengths.sum().backward()
    assert attending.synthesis.b8.attention.scale.grad is not None


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"names blocks of \[64\] px, which a generator of 16 px lacks"):
        built((8, 64))
    with pytest.raises(ValueError, match="needs the tokens of captions"):
        built((8,), ConditionSpec(kind="text", dim=6))
    z, c, _ = inputs()
    with pytest.raises(ValueError, match="called without them"):
        built()(z, c)
