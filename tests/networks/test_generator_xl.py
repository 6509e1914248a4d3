"""Whole StyleGAN-XL generators: stored pictures, activations, gradients, averages, path lengths."""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_cases import assert_golden, descriptions, tensors
from xl_golden import condition_of, config_of, generator_of, labels_of

from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config, SuperresStage
from sgxl_t.networks.generators.generator import Generator

WHOLE = ["xl_stem16", "xl_superres32", "xl_superres64"]


def with_layer_outputs(generator):
    """Fills and returns a dict of every layer's output by name, `input` included."""
    seen = {}
    names = {"input", *generator.synthesis.layer_names}
    for name, module in generator.synthesis.named_children():
        if name in names:
            module.register_forward_hook(lambda _m, _i, y, name=name: seen.__setitem__(name, y.detach()))
    return seen


@pytest.mark.golden
@pytest.mark.parametrize("name", WHOLE)
def test_golden_generator(name):
    stored, generator, c = tensors(name), generator_of(name), labels_of(name)
    assert generator.num_ws == descriptions()[name]["num_ws"]
    seen = with_layer_outputs(generator)
    ws = generator.mapping(stored["z"], c)
    assert_golden(ws, stored["ws"], name)
    ws.retain_grad()
    img = generator.synthesis(ws)
    assert_golden(img, stored["img"], name)
    for layer, y in seen.items():
        wanted = stored[f"act/{layer}"]
        assert_golden(y[:1, : wanted.shape[1]], wanted, name)
    (img * stored["cot"]).sum().backward()
    assert_golden(ws.grad, stored["grad_in/ws"], name, "grad")
    assert {key for key, _ in generator.named_parameters()} == set(descriptions()[name]["parameters"])
    for key, parameter in generator.named_parameters():
        assert_golden(parameter.grad, stored[f"grad/{key}"], name, "grad")
    with torch.no_grad():
        assert_golden(generator(stored["z"], c, truncation_psi=0.7), stored["img_psi07"], name)
        if "img_psi05_cut4" in stored:
            cut = generator(stored["z"], c, truncation_psi=0.5, truncation_cutoff=4)
            assert_golden(cut, stored["img_psi05_cut4"], name)


@pytest.mark.golden
@pytest.mark.parametrize("name", WHOLE)
def test_golden_moving_averages_of(name):
    """StyleGAN3's own kind of training: magnitudes move too and count in the same forward."""
    stored, generator, c = tensors(name), generator_of(name), labels_of(name)
    betas = {entry["name"]: entry["magnitude_ema_beta"] for entry in descriptions()[name]["layers"]}
    with torch.no_grad():
        ws = generator.mapping(stored["z"], c, update_averages=True)
        x = generator.synthesis.input(ws[:, 0])
        for index, layer in enumerate(generator.synthesis.layers()):
            x = layer(x, ws[:, index + 1], magnitude_beta=betas[layer.spec.name])
    if "img_emas" in stored:
        assert_golden(x * 0.25, stored["img_emas"], name)
    state = generator.state_dict()
    after = {key.removeprefix("after/"): value for key, value in stored.items() if key.startswith("after/")}
    assert len(after) == len(betas) + 1
    for key, value in after.items():
        assert_golden(state[key], value, name)


@pytest.mark.golden
def test_golden_xl_superres64_up4():
    name = "xl_superres64_up4"
    stored, generator, c = tensors(name), generator_of(name), labels_of(name)
    with torch.no_grad():
        assert_golden(generator(stored["z"], c), stored["img"], name)
        assert_golden(generator(stored["z"], c, truncation_psi=0.7), stored["img_psi07"], name)


def recipe_value(key, shape):
    """The stored case's rule for weights; see its notes."""
    noise = np.random.RandomState((zlib.crc32(key.encode()) + 5) % 2**32).standard_normal(tuple(shape))
    n = torch.from_numpy(np.asarray(noise, dtype=np.float32))
    if key.startswith("mapping.fc"):
        return n * (100 if key.endswith("weight") else 30)
    if key == "synthesis.input.affine.bias":
        return torch.tensor([1.0, 0.0, 0.0, 0.0]) + 0.2 * n
    if key.endswith("affine.bias"):
        return 1 + 0.2 * n
    if key.endswith("magnitude_ema"):
        return 0.5 + n.abs()
    scales = {"input.affine.weight": 0.7, ".bias": 0.3, "freqs": 0.9, "phases": 0.3, "w_avg": 0.6}
    return n * next((scale for ending, scale in scales.items() if key.endswith(ending)), 1.0)


@pytest.mark.golden
def test_golden_xl_stem16_recipe():
    name = "xl_stem16_recipe"
    stored, c = tensors(name), labels_of(name)
    with torch.device("meta"):
        shapes = Generator(config_of(name), condition_of(name)).state_dict()
    assert {key: list(value.shape) for key, value in shapes.items()} == descriptions()[name]["state_shapes"]
    generator = Generator(config_of(name), condition_of(name))
    for key, value in generator.state_dict().items():
        if not key.endswith(("_filter", "transform")):
            value.copy_(recipe_value(key, value.shape))
    with torch.no_grad():
        assert_golden(generator.mapping(stored["z"], c), stored["ws"], name)
        assert_golden(generator(stored["z"], c), stored["img"], name)
        assert_golden(generator(stored["z"], c, truncation_psi=0.7), stored["img_psi07"], name)


# Published numbers of small networks whose weights follow from their names.


def pseudo_random(seed, count):
    """u_i in [-1, 1) of the rule, in float64."""
    q = np.sin(np.arange(count) * 12.9898 + seed * 78.233) * 43758.5453
    return 2 * (q - np.floor(q)) - 1


def name_hash(name):
    """Position-weighted sum of the characters, modulo 1000."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(name)) % 1000


def fill(generator):
    """Every parameter and average from its name; filters, transform and magnitudes stay."""
    for key, value in generator.state_dict().items():
        if key.endswith(("_filter", "transform", "magnitude_ema")):
            continue
        u = pseudo_random(name_hash(key), value.numel()).reshape(tuple(value.shape))
        if key.endswith("freqs"):
            new = 2 * u
        elif key.endswith("phases"):
            new = 0.5 * u
        elif key == "synthesis.input.affine.weight":
            new = 0.1 * math.sqrt(3) * u
        elif key == "synthesis.input.affine.bias":
            new = np.array([1, 0.1, 0.05, -0.07])
        elif key.endswith("affine.bias"):
            new = 1 + 0.1 * math.sqrt(3) * u
        elif key.endswith(".bias") or key == "mapping.w_avg":
            new = 0.1 * math.sqrt(3) * u
        elif key.startswith("mapping.fc"):
            new = 100 * math.sqrt(3) * u
        else:
            new = math.sqrt(3) * u
        value.copy_(torch.from_numpy(np.asarray(new, dtype=np.float32)))
    return generator.eval()


def filled(resolution, *, radial=False):
    """The T network of ten layers with its heads of seven, or the unconditional R stem of seven layers."""
    heads = () if resolution == 16 else (SuperresStage(),) * int(math.log2(resolution // 16))
    sizes = StyleGAN3Config(channel_base=512, channel_max=32, superres=heads)
    condition = ConditionSpec(kind="class", dim=320, num_classes=1000)
    if radial:
        sizes = replace(sizes, num_layers=7, conv_kernel=1, use_radial_filters=True)
        condition = ConditionSpec()
    return fill(Generator(GeneratorConfig(img_resolution=resolution, stylegan3=sizes), condition))


def latents():
    """Two latents of the rule and the labels that go with them."""
    z = torch.from_numpy((math.sqrt(3) * pseudo_random(7, 128)).reshape(2, 64).astype(np.float32))
    return z, torch.tensor([3, 917])


def test_rule_of_the_published_numbers():
    assert name_hash("mapping.fc0.weight") == 389
    assert name_hash("synthesis.L0_36_32.weight") == 325
    assert pseudo_random(7, 4) == pytest.approx([-0.75562675, -0.78462593, 0.80851609, 0.08298107], abs=1e-8)
    assert pseudo_random(389, 3) == pytest.approx([0.45028386, -0.47161609, -0.34532116], abs=1e-8)


PUBLISHED = {
    # Resolution: layers (mean, std, probe); the image's mean and std, [0, :, 0, 0] and [1, :, H/2, W/3].
    16: {
        "layers": {
            "input": (-0.025541, 0.690163, 0.704663),
            "L4_36_32": (0.192139, 0.377794, -0.021548),
            "L8_36_32": (0.189420, 0.571221, 0.008035),
            "L9_16_32": (0.096801, 0.368861, -0.107904),
            "L10_16_3": (0.079010, 0.311241, 0.521615),
        },
        "image": (0.019752, 0.077810),
        "corner": (-0.023975, -0.050885, 0.086302),
        "inside": (0.130404, -0.011368, -0.052276),
    },
    32: {
        "layers": {
            "L7_36_32": (0.292026, 0.621048, 0.234992),
            "L9_36_32": (0.353439, 0.836745, -0.033799),
            "L10_52_32": (0.224536, 0.706243, 0.182656),
            "L15_32_16": (0.059201, 0.194339, -0.112516),
            "L16_32_3": (-0.109463, 0.242886, -0.162113),
        },
        "image": (-0.027366, 0.060722),
        "corner": (0.016465, 0.035394, -0.128473),
        "inside": (-0.040528, -0.091575, -0.059349),
    },
    64: {
        "layers": {
            "L13_52_19": (0.125989, 0.451826, 0.193312),
            "L14_52_19": (0.177885, 0.405352, 0.477224),
            "L15_84_16": (0.126225, 0.298230, 0.803317),
            "L20_64_8": (0.086015, 0.254235, -0.018415),
            "L21_64_3": (-0.325283, 0.372096, 0.178418),
        },
        "image": (-0.081321, 0.093024),
        "corner": (-0.224763, -0.06451, -0.047383),
        "inside": (0.044605, -0.015958, -0.190759),
    },
    "R": {
        "layers": {
            "input": (-0.026721, 0.690285, 0.699164),
            "L0_36_32": (0.309962, 0.481211, 0.213330),
            "L5_36_32": (0.210028, 0.478963, -0.249934),
            "L6_16_32": (0.213153, 0.411930, 1.094162),
            "L7_16_3": (0.311818, 0.675598, 0.257209),
        },
        "image": (0.077955, 0.168899),
        "corner": (-0.131035, 0.068495, 0.208184),
        "inside": (0.064302, 0.072037, 0.100163),
    },
}


@pytest.mark.golden
@pytest.mark.parametrize("kind", list(PUBLISHED))
def test_golden_published_numbers_of_small_networks(kind):
    wanted, (z, c) = PUBLISHED[kind], latents()
    generator = filled(16, radial=True) if kind == "R" else filled(kind)
    c = None if kind == "R" else c
    seen = with_layer_outputs(generator)
    with torch.no_grad():
        ws = generator.mapping(z, c)
        img = generator.synthesis(ws)
        cut = generator.mapping(z, c, truncation_psi=0.7, truncation_cutoff=5)
    first = [0.225917, 0.100849, -0.067017] if kind == "R" else [1.11225, -0.161464, 2.960519]
    pulled = [0.169341, 0.119573, -0.038866] if kind == "R" else [0.749719, -0.16243, 2.050751]
    assert ws[0, 0, :3].tolist() == pytest.approx(first, abs=1e-4)
    assert cut[0, 0, :3].tolist() == pytest.approx(pulled, abs=1e-4)
    assert cut[0, 5, :3].tolist() == pytest.approx(first, abs=1e-4)
    for name, (mean, std, probe) in wanted["layers"].items():
        y = seen[name]
        side = y.shape[-1]
        found = (y.mean().item(), y.std().item(), y[1, 0, side // 2, side // 3].item())
        assert found == pytest.approx((mean, std, probe), abs=1e-4), name
    side = img.shape[-1]
    assert (img.mean().item(), img.std().item()) == pytest.approx(wanted["image"], abs=1e-4)
    assert img[0, :, 0, 0].tolist() == pytest.approx(wanted["corner"], abs=1e-4)
    assert img[1, :, side // 2, side // 3].tolist() == pytest.approx(wanted["inside"], abs=1e-4)


@pytest.mark.golden
def test_golden_published_numbers_under_a_user_transform():
    generator, (z, c) = filled(32), latents()
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    matrix = torch.tensor([[cos, sin, 0.2], [-sin, cos, -0.1], [0, 0, 1]], dtype=torch.float64)
    generator.synthesis.input.transform.copy_(matrix.inverse())
    with torch.no_grad():
        img = generator(z, c)
    assert img[0, :, 0, 0].tolist() == pytest.approx([0.017267, 0.091761, -0.199603], abs=1e-4)
    assert img[1, :, 16, 10].tolist() == pytest.approx([-0.046849, -0.091744, -0.049134], abs=1e-4)
    assert (img.mean().item(), img.std().item()) == pytest.approx((-0.032283, 0.062919), abs=1e-4)


# Behaviour.

TINY = GeneratorConfig(
    img_resolution=16,
    z_dim=16,
    stylegan3=StyleGAN3Config(w_dim=24, num_layers=4, channel_base=128, channel_max=8, margin_size=4),
)


def tiny(condition=None, config=TINY):
    torch.manual_seed(0)
    return Generator(config, condition or ConditionSpec())


def test_pictures_do_not_depend_on_their_batch():
    generator = tiny(ConditionSpec(kind="class", dim=12, num_classes=5))
    z, c = torch.randn(5, 16), torch.tensor([0, 1, 2, 3, 4])
    with torch.no_grad():
        together = generator(z, c)
        alone = torch.cat([generator(z[i : i + 1], c[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_noise_arguments_are_taken_and_ignored():
    generator, z = tiny(), torch.randn(2, 16)
    rng = torch.Generator().manual_seed(1)
    torch.testing.assert_close(generator(z, noise_mode="random", rng=rng), generator(z, noise_mode="none"))


@pytest.mark.parametrize("condition", [ConditionSpec(), ConditionSpec(kind="text", dim=12)])
def test_path_lengths_are_slopes_of_each_sample_and_train_the_weights(condition):
    generator, z = tiny(condition), torch.randn(2, 16)
    c = None if condition.kind == "none" else torch.randn(2, 12)
    noise = torch.randn(2, 3, 16, 16) / 16
    img, lengths = generator(z, c, pl_noise=noise)
    torch.testing.assert_close(img, generator(z, c))
    ws = generator.mapping(z, c).detach().requires_grad_()
    for i in range(2):
        scalar = (generator.synthesis(ws[i : i + 1]) * noise[i : i + 1]).sum()
        slope = torch.autograd.grad(scalar, ws)[0][i]
        torch.testing.assert_close(lengths[i], slope.square().sum(dim=1).mean().sqrt(), rtol=1e-3, atol=1e-5)
    lengths.sum().backward()
    # Only the last bias adds to every picture alike and so has no part in their slopes.
    grads = {key: parameter.grad for key, parameter in generator.synthesis.named_parameters()}
    without = [key for key, grad in grads.items() if grad is None or not grad.any()]
    assert without == [f"{generator.synthesis.layer_names[-1]}.bias"]


def test_path_lengths_work_with_a_frozen_mapping():
    generator = tiny()
    generator.mapping.requires_grad_(False)
    _, lengths = generator(torch.randn(2, 16), pl_noise=torch.randn(2, 3, 16, 16) / 16)
    assert lengths.shape == (2,)


def test_wrong_styles_are_refused():
    generator = tiny()
    with pytest.raises(ValueError, match=r"pass ws \[N, 6, 24\]"):
        generator.synthesis(torch.zeros(1, 5, 24))


def test_half_precision_pictures_stay_close_and_come_in_float32():
    generator, z = tiny(), torch.randn(2, 16)
    with torch.no_grad():
        exact = generator(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = generator(z)
    assert half.dtype == torch.float32
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()
