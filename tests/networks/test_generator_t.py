"""StyleGAN-T's mapping and synthesis: stored numbers, truncation, noise, conditions, impossible sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_cases import assert_golden, descriptions, state_of, tensors
from torch import Tensor, nn

from sgxl_t.model_io.published.generator_t import generator_state_from_official_t
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.layers_t import ModulatedLayer, ResidualLayer, StyleAffine, ToRGB
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.generators.synthesis_t import SynthesisBlock

TEXT = ConditionSpec(kind="text", dim=768)
NONE = ConditionSpec()
CLASS = ConditionSpec(kind="class", dim=20, num_classes=5)
TINY = StyleGANTConfig(channel_base=128, channel_max=16, num_res_blocks=1)


def tiny(condition: ConditionSpec, seed: int = 0, **changes: object) -> Generator:
    """A 16 px network whose noise and residual branches are switched on."""
    torch.manual_seed(seed)
    config = GeneratorConfig(
        family="stylegan_t", img_resolution=16, z_dim=8, stylegan_t=replace(TINY, **changes)
    )
    network = Generator(config, condition)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(("noise_strength", "gamma")):
                value.fill_(0.3)
    return network


def load(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Strict: every stored tensor is used, every tensor of ours is filled."""
    module.load_state_dict(generator_state_from_official_t(state))


def assert_gradients(name: str, loss: Tensor, module: nn.Module, inputs: dict[str, Tensor]) -> None:
    """All stored gradients of one case, of parameters and of inputs."""
    loss.backward()
    parameters = dict(module.named_parameters())
    stored = {key: value for key, value in tensors(name).items() if key.startswith("grad")}
    assert stored
    for key, value in stored.items():
        kind, target = key.split("/", 1)
        gradient = (parameters if kind == "grad" else inputs)[target].grad
        assert gradient is not None, key
        assert_golden(gradient, value, name, "grad")


def leaf(case: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    """Inputs of a case that gradients are wanted for."""
    return {name: case[name].clone().requires_grad_() for name in names if name in case}


def layer_from(ctor: dict, gain: float) -> ModulatedLayer:
    shared = {"act_gain": 2**0.5 * gain, "conv_clamp": ctor["conv_clamp"]}
    if ctor["residual"]:
        return ResidualLayer(
            ctor["in_channels"], ctor["w_dim"], ctor["resolution"], norm_groups=ctor["gn_groups"], **shared
        )
    return ModulatedLayer(
        ctor["in_channels"], ctor["out_channels"], ctor["w_dim"], ctor["resolution"], up=ctor["up"], **shared
    )


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["t_layer_plain", "t_layer_residual", "t_layer_residual_groups3", "t_layer_up2"]
)
def test_golden_layer(name: str) -> None:
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    inputs = leaf(case, "x", "w")
    layer = layer_from(ctor, gain=1.0)
    load(layer, state_of(name))
    y = layer(inputs["x"], inputs["w"], layer.noise_const)
    assert_golden(y, case["y"], name)
    assert_golden(layer(inputs["x"], inputs["w"]), case["y_none"], name)
    assert_gradients(name, (y * case["cot/y"]).sum(), layer, inputs)
    scaled = layer_from(ctor, gain=0.5**0.5)
    load(scaled, state_of(name))
    assert_golden(scaled(case["x"], case["w"], scaled.noise_const), case["y_gain"], name)


@pytest.mark.golden
def test_golden_t_style_split() -> None:
    name = "t_style_split"
    case = tensors(name)
    inputs = leaf(case, "w")
    affine = StyleAffine(20, 6)
    load(affine, state_of(name))
    y = affine(inputs["w"])
    assert_golden(y, case["y"], name)
    assert_gradients(name, (y * case["cot/y"]).sum(), affine, inputs)


@pytest.mark.golden
def test_golden_t_torgb() -> None:
    name = "t_torgb"
    case = tensors(name)
    inputs = leaf(case, "x", "w")
    torgb = ToRGB(6, 3, 20)
    load(torgb, state_of(name))
    y = torgb(inputs["x"], inputs["w"])
    assert_golden(y, case["y"], name)
    assert_gradients(name, (y * case["cot/y"]).sum(), torgb, inputs)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["t_block_first", "t_block_mid", "t_block_last_orig"])
def test_golden_block(name: str) -> None:
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    inputs = leaf(case, "x", "img", "ws")
    sizes = StyleGANTConfig(num_res_blocks=ctor["num_res_blocks"], norm_groups=ctor["gn_groups"])
    block = SynthesisBlock(
        ctor["in_channels"], ctor["out_channels"], ctor["w_dim"], ctor["resolution"], sizes, 3
    )
    load(block, state_of(name))
    noise = iter([layer.noise_const for layer in block.noisy_layers()])
    x, img = block(inputs.get("x"), inputs.get("img"), inputs["ws"].unbind(1), noise)
    assert_golden(x, case["y_x"], name)
    assert_golden(img, case["y_img"], name)
    loss = (x * case["cot/y_x"]).sum() + (img * case["cot/y_img"]).sum()
    assert_gradients(name, loss, block, inputs)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["t_mapping_text", "t_mapping_uncond"])
def test_golden_mapping(name: str) -> None:
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    mapping = MappingT(GeneratorConfig(z_dim=16), TEXT if "c" in case else NONE, ctor["num_ws"] or 1)
    load(mapping, state_of(name))
    inputs = leaf(case, "z")
    c = case.get("c")
    w = mapping(inputs["z"], c)
    assert_golden(w.view(case["w"].shape), case["w"], name)
    for key, psi in (("w_psi07", 0.7), ("w_psi0", 0.0)):
        if key in case:
            assert_golden(mapping(case["z"], c, truncation_psi=psi).view(case[key].shape), case[key], name)
    if c is not None:
        assert_golden(mapping(case["z"], c, update_averages=True), case["w_train"], name)
        assert_golden(mapping.x_avg, case["x_avg_after"], name)
        assert_gradients(name, (w * case["cot"]).sum(), mapping, inputs)


@pytest.mark.golden
def test_golden_t_generator64() -> None:
    name = "t_generator64"
    case, entry = tensors(name), descriptions()[name]
    kwargs = entry["ctor"]["synthesis_kwargs"]
    sizes = StyleGANTConfig(
        channel_base=kwargs["channel_base"],
        channel_max=kwargs["channel_max"],
        num_res_blocks=kwargs["num_res_blocks"],
        norm_groups=kwargs["gn_groups"],
    )
    config = GeneratorConfig(family="stylegan_t", img_resolution=64, z_dim=8, stylegan_t=sizes)
    network = Generator(config, TEXT)
    load(network, state_of(name))
    mapping, synthesis = network.mapping, network.synthesis
    assert (synthesis.num_ws, mapping.w_dim) == (entry["num_ws"], entry["w_dim"])
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    for side in synthesis.block_resolutions:
        block = synthesis.get_submodule(f"b{side}")
        block.register_forward_hook(lambda _m, _i, out, side=side: kept.__setitem__(f"b{side}", out))
    inputs = leaf(case, "z", "c")
    img = synthesis(mapping(inputs["z"], inputs["c"]), noise_mode="const")
    assert_golden(img, case["img"], name)
    for block, (x, rgb) in kept.items():
        assert_golden(x[:1, :2], case[f"act/{block}"], name)
        assert_golden(rgb[:1], case[f"rgb/{block}"], name)
    assert_gradients(name, (img * case["cot"]).sum(), network, inputs)
    with torch.no_grad():
        ws = mapping(case["z"], case["c"])
        assert_golden(synthesis(ws, noise_mode="none"), case["img_nonoise"], name)
        ws = mapping(case["z"], case["c"], truncation_psi=0.7)
        assert_golden(synthesis(ws, noise_mode="const"), case["img_psi07"], name)


@pytest.mark.parametrize("condition", [TEXT, CLASS, NONE], ids=["text", "class", "none"])
def test_every_condition_makes_images_and_gradients(condition: ConditionSpec) -> None:
    network = tiny(condition)
    c = condition_batch(condition, 3)
    ws = network.mapping(torch.randn(3, 8), c)
    assert ws.shape == (3, network.synthesis.num_ws, 8 + (condition.dim if c is not None else 0))
    image = network.synthesis(ws, rng=torch.Generator().manual_seed(0))
    assert image.shape == (3, 3, 16, 16)
    assert image.dtype == torch.float32
    image.square().mean().backward()
    missing = [name for name, value in network.named_parameters() if value.grad is None]
    assert not missing


def condition_batch(condition: ConditionSpec, count: int) -> Tensor | None:
    if condition.kind == "none":
        return None
    if condition.kind == "class":
        return torch.arange(count) % condition.num_classes
    return nn.functional.normalize(torch.randn(count, condition.dim), dim=1)


def test_class_row_is_appended_like_a_text_feature() -> None:
    network = tiny(CLASS)
    labels = torch.tensor([4, 1])
    ws = network.mapping(torch.randn(2, 8), labels)
    assert torch.equal(ws[:, 0, 8:], network.mapping.embed.weight[labels])


def test_text_scale_multiplies_the_condition_only() -> None:
    plain, scaled = tiny(TEXT).mapping, tiny(TEXT, text_scale=3.0).mapping
    z, c = torch.randn(2, 8), condition_batch(TEXT, 2)
    assert torch.equal(scaled(z, c)[..., :8], plain(z, c)[..., :8])
    torch.testing.assert_close(scaled(z, c)[..., 8:], 3 * plain(z, c)[..., 8:])
    torch.testing.assert_close(scaled.center(c)[..., 8:], 3 * plain.center(c)[..., 8:])


@pytest.mark.parametrize("condition", [TEXT, CLASS, NONE], ids=["text", "class", "none"])
def test_psi_zero_is_the_centre_and_keeps_the_condition(condition: ConditionSpec) -> None:
    mapping = tiny(condition).mapping
    z, c = torch.randn(3, 8), condition_batch(condition, 3)
    mapping(z, c, update_averages=True)
    assert mapping.x_avg.abs().sum() > 0
    ws = mapping(z, c, truncation_psi=0.0)
    torch.testing.assert_close(ws, mapping.center(c).expand(3, -1)[:, None].expand_as(ws))
    whole, half = mapping(z, c), mapping(z, c, truncation_psi=0.5)
    torch.testing.assert_close(half, (whole + ws) / 2)
    assert torch.equal(half[..., 8:], whole[..., 8:])


def test_cutoff_truncates_leading_styles_only() -> None:
    mapping = tiny(NONE).mapping
    mapping.x_avg.normal_()
    z = torch.randn(2, 8)
    whole, cut = mapping(z), mapping(z, truncation_psi=0.3, truncation_cutoff=2)
    assert torch.equal(cut[:, 2:], whole[:, 2:])
    assert torch.equal(cut[:, :2], mapping(z, truncation_psi=0.3)[:, :2])
    assert torch.equal(mapping(z, truncation_psi=0.3, truncation_cutoff=0), whole)


def test_average_moves_only_when_asked() -> None:
    mapping = tiny(NONE).mapping.train()
    before = mapping.x_avg.clone()
    mapping(torch.randn(4, 8))
    assert torch.equal(mapping.x_avg, before)
    mapping(torch.randn(4, 8), update_averages=True)
    assert not torch.equal(mapping.x_avg, before)


def test_noise_modes() -> None:
    network = tiny(NONE)
    synthesis, ws = network.synthesis, network.mapping(torch.randn(2, 8))

    def image(mode: str, seed: int = 0) -> Tensor:
        with torch.no_grad():
            return synthesis(ws, noise_mode=mode, rng=torch.Generator().manual_seed(seed))

    assert torch.equal(image("random", 1), image("random", 1))
    assert not torch.equal(image("random", 1), image("random", 2))
    assert torch.equal(image("const", 1), image("const", 2))
    assert not torch.equal(image("const"), image("none"))
    with pytest.raises(ValueError, match="noise_mode 'loud' is unknown"):
        image("loud")


def test_noise_differs_between_samples_and_leaves_the_global_stream_alone() -> None:
    synthesis = tiny(NONE).synthesis
    state = torch.get_rng_state()
    noise = synthesis.draw_noise(2, torch.device("cpu"), torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert [tuple(image.shape) for image in noise] == [(2, 1, 8, 8)] * 2 + [(2, 1, 16, 16)] * 3
    assert not torch.equal(noise[0][0], noise[0][1])


def test_silent_noise_still_learns() -> None:
    network = tiny(NONE)
    layer = network.synthesis.b8.convs1[0]
    with torch.no_grad():
        layer.noise_strength.zero_()
    ws = network.mapping(torch.randn(2, 8))
    network.synthesis(ws, rng=torch.Generator().manual_seed(0)).square().sum().backward()
    assert layer.noise_strength.grad.abs() > 0


def test_second_derivatives_exist() -> None:
    network = tiny(NONE)
    ws = network.mapping(torch.randn(2, 8)).detach().requires_grad_()
    image = network.synthesis(ws, noise_mode="const")
    (slope,) = torch.autograd.grad(image.sum(), ws, create_graph=True)
    slope.square().sum().backward()
    assert network.synthesis.b16.conv0.weight.grad.abs().sum() > 0


def test_groups_fall_to_a_divisor_where_channels_are_few() -> None:
    assert ResidualLayer(64, 4, 8).norm.num_groups == 32
    assert ResidualLayer(48, 4, 8).norm.num_groups == 16
    assert ResidualLayer(10, 4, 8).norm.num_groups == 2


def test_autocast_keeps_the_image_close_and_in_float32() -> None:
    network = tiny(TEXT)
    with torch.no_grad():
        ws = network.mapping(torch.randn(2, 8), condition_batch(TEXT, 2))
        exact = network.synthesis(ws, noise_mode="const")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network.synthesis(ws, noise_mode="const")
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_resolution": 24}, "power of two"),
        ({"img_resolution": 4}, "power of two"),
        ({"stylegan_t": replace(TINY, channel_base=8)}, "channel_base=8 leaves no channels at 16 px"),
        ({"stylegan_t": replace(TINY, num_res_blocks=0)}, "num_res_blocks=0"),
        ({"stylegan_t": replace(TINY, mapping_layers=0)}, "mapping_layers=0"),
    ],
)
def test_impossible_sizes_say_what_to_do(changes: dict, message: str) -> None:
    shared = {"family": "stylegan_t", "img_resolution": 16, "z_dim": 8, "stylegan_t": TINY}
    with pytest.raises(ValueError, match=message):
        Generator(GeneratorConfig(**{**shared, **changes}), NONE)


def test_styles_of_the_wrong_shape_are_refused() -> None:
    synthesis = tiny(NONE).synthesis
    with pytest.raises(ValueError, match=r"pass ws \[N, 7, 8\]"):
        synthesis(torch.zeros(2, 3, 8))


# Mirrored pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [NONE, TEXT], ids=["none", "text"])
@pytest.mark.parametrize("psi", [1.0, 0.6])
def test_every_other_seed_is_mirrored_and_nothing_else_changes(condition: ConditionSpec, psi: float) -> None:
    """Below psi 1 fewer are."""
    plain, mirrored = tiny(condition), tiny(condition, mirrored=True)
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    c = None if condition.kind == "none" else torch.randn(64, 768, generator=torch.Generator().manual_seed(2))
    one, other = (net(z, c, truncation_psi=psi, noise_mode="none") for net in (plain, mirrored))
    turned = z[:, 0] < -(1 - psi) / psi  # 1 + psi * (z - 1) < 0
    assert turned.float().mean() == pytest.approx(0.5 if psi == 1 else 0.25, abs=0.15)
    torch.testing.assert_close(other[turned], one[turned].flip(3))
    torch.testing.assert_close(other[~turned], one[~turned])
    assert not torch.allclose(one, one.flip(3), atol=0.01)


def test_styles_keep_which_way_a_picture_faces() -> None:
    network = tiny(TEXT, mirrored=True)
    z, c = torch.randn(8, 8), torch.randn(8, 768)
    ws = network.mapping(z, c)
    assert ws.shape == (8, network.num_ws, network.w_dim)
    torch.testing.assert_close(network.synthesis(ws, noise_mode="none"), network(z, c, noise_mode="none"))
    center = network.mapping.center(c)
    assert center.shape == (8, network.w_dim)
    assert network.synthesis.turned(center.unsqueeze(1)).sum() == 0
