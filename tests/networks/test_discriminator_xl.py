"""Heads of the projected discriminator and the whole of it: stored numbers, sizes, gradients, conditions."""

import json
from dataclasses import replace

import pytest
import torch
from golden_cases import FOLDER, assert_golden, descriptions, state_of, tensors
from torch import nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.image_backbones import ImageBackbone
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators import projector
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.discriminators.discriminator_xl import MultiScaleHeads, ProjectedHead, ProjectedHeads
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.ops.diff_augment import diff_augment

CLASSES = ConditionSpec(kind="class", dim=12, num_classes=5)
NONE = ConditionSpec()
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def labels(case):
    return case["c"].argmax(1) if "c" in case else None


def check_training(case, name, module, prefix=""):
    """Gradients and buffers of `module` against the stored ones under their official names."""
    zero = set(descriptions()[name].get("grads_mathematically_zero", ()))
    compared = 0
    for key, parameter in module.named_parameters():
        stored = f"grad/{prefix}{key}"
        if stored in case:
            assert_golden(parameter.grad, case[stored], name, "grad")
            compared += 1
        else:
            assert stored in zero, stored
            sibling = module.get_parameter(key.removesuffix("bias") + "weight_orig").grad
            assert parameter.grad.abs().max() < 1e-3 * sibling.abs().max()
    assert compared > 0
    for key, buffer in module.named_buffers():
        if f"state_after/{prefix}{key}" in case:
            stored = case[f"state_after/{prefix}{key}"]
            assert_golden(buffer.float(), stored.float(), name)


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["xl_head_cond", "xl_head_cond_nodown", "xl_head_cond_patch", "xl_head_uncond"]
)
def test_golden_head(name):
    ctor, case = descriptions()[name]["ctor"], tensors(name)
    head = ProjectedHead(
        ctor["nc"],
        ctor["start_sz"],
        CLASSES if "embedding" in ctor else NONE,
        end_size=ctor["end_sz"],
        width=ctor["ndf"],
        patch=ctor.get("patch", False),
    )
    head.load_state_dict(state_of(name))
    x = case["x"].clone().requires_grad_()
    assert_golden(head.eval()(x, labels(case)), case["y_eval"], name)
    y = head.train()(x, labels(case))
    assert_golden(y, case["y_train"], name)
    (y * case["cot"]).sum().backward()
    assert_golden(x.grad, case["grad_in/x"], name, "grad")
    check_training(case, name, head)


@pytest.mark.golden
def test_golden_xl_multiscale_cond():
    name = "xl_multiscale_cond"
    ctor, case = descriptions()[name]["ctor"], tensors(name)
    config = DiscriminatorConfig(projected=ProjectedConfig(head_width=ctor["ndf"]))
    heads = MultiScaleHeads(config, CLASSES, ctor["channels"], (112, 56, 28, 14))
    heads.load_state_dict(state_of(name))
    maps = [case[f"feat/{level}"].clone().requires_grad_() for level in range(4)]
    assert_golden(heads.eval()(maps, labels(case)), case["logits_eval"], name)
    logits = heads.train()(maps, labels(case))
    assert_golden(logits, case["logits"], name)
    (logits * case["cot"]).sum().backward()
    for level, x in enumerate(maps):
        assert_golden(x.grad[:, :1], case[f"grad_in/feat{level}"], name, "grad")
    check_training(case, name, heads)


class Stub(ImageBackbone):
    """Four convolutions in place of a backbone."""

    kind = "cnn"

    def __init__(self, channels):
        super().__init__()
        self.channels, self.embed_dim = tuple(channels), channels[-1]
        widths = [3, *channels]
        for level in range(4):
            kernel = 2 if level else 4
            self.add_module(
                f"layer{level}", nn.Conv2d(widths[level], widths[level + 1], kernel, stride=kernel)
            )

    def pooled(self, x):
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x):
        out = []
        for level in range(4):
            x = self.get_submodule(f"layer{level}")(x)
            out.append(x)
        return out


def stored_discriminator(name):
    """The whole discriminator of a case; its state must be consumed and filled to the last tensor."""
    ctor, state = descriptions()[name]["ctor"], state_of(name)
    config = DiscriminatorConfig(
        diff_augment="color,translation,cutout" if ctor["diffaug"] else "",
        projected=ProjectedConfig(cout=ctor["cout"], head_width=ctor["ndf"], input_size=224),
    )
    norms = {"tf_efficientnet_lite0": {}, "tf_efficientnet_b0": IMAGENET}
    networks = [
        FeatureNetwork(key, Stub(ctor["backbone_channels"][key]), **norms[key]) for key in ctor["backbones"]
    ]
    built = build_discriminator(config, CLASSES, 16, networks=networks)
    frozen, trained = {}, {}
    for key, value in state.items():
        kind, backbone, rest = key.split(".", 2)
        index = ctor["backbones"].index(backbone)
        if kind == "discriminators":
            trained[f"networks.{index}.{rest}"] = value
        elif rest.startswith("pretrained"):
            frozen[f"networks.{index}.backbone.{rest.removeprefix('pretrained.')}"] = value
        else:
            frozen[f"projections.{index}.{rest}"] = value
    frozen |= {f"projections.{index}.scale": torch.ones(4) for index in range(len(networks))}
    built.features.load_state_dict(frozen)
    built.heads.load_state_dict(trained)
    return built


@pytest.mark.golden
@pytest.mark.parametrize("name", ["xl_projected_d", "xl_projected_d_diffaug"])
def test_golden_whole(name, monkeypatch):
    ctor, case = descriptions()[name]["ctor"], tensors(name)
    stored_x = case["x"] if "x" in case else tensors("xl_projected_d")["x"]
    c = labels(case)
    # Values in float32; gradients in float64, where no rounding flips the sign of a leaky ReLU's input.
    for dtype in (torch.float32, torch.float64):
        built = stored_discriminator(name).to(dtype)
        if ctor["diffaug"]:
            inject_draws(monkeypatch, case, ctor["backbones"])
        x = stored_x.to(dtype, copy=True).requires_grad_()
        logits = torch.cat(built(x, c))  # the stored list goes over networks, then samples
        for index, row in enumerate(logits):
            if f"logits/{index}" in case:
                assert_golden(row, case[f"logits/{index}"], name)
    torch.stack([(row * case[f"cot/{index}"]).sum() for index, row in enumerate(logits)]).sum().backward()
    if "grad_in/x" in case:
        assert_golden(x.grad, case["grad_in/x"], name, "grad")
    for index, backbone in enumerate(ctor["backbones"]):
        check_training(case, name, built.heads.networks[index], f"discriminators.{backbone}.")


def inject_draws(monkeypatch, case, backbones):
    """The recorded draws of each network, in order, in place of fresh ones."""
    names = iter(backbones)

    def recorded(images, policy, *, generator):
        prefix = f"draw/{next(names)}/"
        draws = {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}
        return diff_augment(images, policy, draws=draws)

    monkeypatch.setattr(projector, "diff_augment", recorded)


def test_full_size_heads_have_the_published_names_and_shapes():
    table = json.loads((FOLDER / "state_shapes_xl_discriminator.json").read_text())
    stored = table["multiscale_heads_cout64_expand"]
    spec = ConditionSpec(kind="class", dim=320, num_classes=1000)
    with torch.device("meta"):
        heads = MultiScaleHeads(DiscriminatorConfig(), spec, stored["channels"], (112, 56, 28, 14))
    assert {key: list(value.shape) for key, value in heads.state_dict().items()} == stored["state"]
    assert sorted(key for key, _ in heads.named_parameters()) == sorted(stored["parameters"])


SMALL = ProjectedConfig(
    cout=8, expand=False, final_upsample=False, head_width=12, end_size=4, cmap_dim=8, input_size=None
)


def small(condition, **changes):
    config = DiscriminatorConfig(features=("random:small_cnn",), diff_augment="", projected=SMALL)
    return build_discriminator(config, condition, 32, **changes)


@pytest.mark.parametrize(
    ("condition", "c"),
    [
        (CLASSES, torch.tensor([0, 4, 2])),
        (ConditionSpec(kind="text", dim=6), nn.functional.normalize(torch.randn(3, 6), dim=1)),
        (NONE, None),
    ],
    ids=["class", "text", "none"],
)
def test_every_condition_gives_logits_and_gradients(condition, c):
    built = small(condition)
    images = torch.randn(3, 3, 32, 32, requires_grad=True)
    (logits,) = built(images, c)
    assert logits.shape == (3, 4)  # one logit per level: every map ends at 4 x 4
    logits.square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in built.heads.parameters())
    assert all(parameter.grad is None for parameter in built.features.parameters())


def test_heads_and_features_are_separate_and_features_stay_frozen():
    built = small(NONE)
    built.heads.train()
    built.features.train().requires_grad_(True)
    assert not any(module.training for module in built.features.modules())
    assert not any(parameter.requires_grad for parameter in built.features.parameters())
    heads = {id(parameter) for parameter in built.heads.parameters()}
    assert not heads & {id(parameter) for parameter in built.features.parameters()}


def test_one_pass_of_the_features_serves_real_and_generated_images():
    built = small(NONE)
    real, fake = torch.randn(2, 2, 3, 32, 32)
    with torch.no_grad():
        both = built.features(torch.cat([real, fake]))
        apart = built.features(real)
    for x, y in zip(both[0], apart[0], strict=True):
        torch.testing.assert_close(x[:2], y)


def test_seed_decides_all_random_weights():
    torch.manual_seed(1)
    first = small(CLASSES, seed=5)
    torch.manual_seed(2)
    second, other = small(CLASSES, seed=5), small(CLASSES, seed=6)
    for part in ("features", "heads"):
        a, b, c = (getattr(built, part).state_dict() for built in (first, second, other))
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert any(not torch.equal(a[key], c[key]) for key in a)


def test_every_level_gives_equally_many_logits_on_small_maps():
    config = DiscriminatorConfig(projected=ProjectedConfig(head_width=4, final_upsample=False))
    heads = MultiScaleHeads(config, NONE, (3, 3, 3, 3), (32, 16, 8, 4))
    counts = [
        head(torch.randn(2, 3, side, side)).shape
        for head, side in zip(heads.mini_discs, (32, 16, 8, 4), strict=True)
    ]
    assert set(counts) == {(2, 1, 5, 5)}


@pytest.mark.parametrize("side", [32, 72, 96, 100, 160, 224])
def test_small_heads_read_a_published_network_at_any_side(side):
    """Sides that are no power of two leave maps that are smaller than the heads' last kernel."""
    projected = ProjectedConfig(
        head_width=4, cout=4, expand=False, final_upsample=False, end_size=4, input_size=side
    )
    config = DiscriminatorConfig(
        features=("random:tf_efficientnet_lite0",), diff_augment="", projected=projected
    )
    (logits,) = build_discriminator(config, NONE, 32)(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 4)
    assert logits.std() > 0


def test_two_networks_give_two_sets_of_logits():
    config = DiscriminatorConfig(
        features=("random:small_cnn", "random:small_vit"), diff_augment="color,cutout", projected=SMALL
    )
    built = build_discriminator(config, NONE, 16)
    rng = torch.Generator().manual_seed(0)
    logits = built(torch.randn(2, 3, 16, 16), None, rng)
    assert [tuple(entry.shape) for entry in logits] == [(2, 4), (2, 4)]


def test_dino_family_is_built_around_one_transformer():
    config = DiscriminatorConfig(family="dino", features=("random:small_vit",), diff_augment="")
    config = replace(config, dino=replace(config.dino, taps=(1, 3)))
    built = build_discriminator(config, CLASSES, 32)
    (logits,) = built(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert logits.shape == (2, 3 * 64)
    with pytest.raises(ValueError, match="exactly one"):
        build_discriminator(replace(config, features=("random:small_vit",) * 2), CLASSES, 32)


def test_heads_refuse_features_of_other_networks():
    heads = ProjectedHeads(DiscriminatorConfig(projected=SMALL), NONE, [(3,) * 4], [(32, 16, 8, 4)])
    with pytest.raises(ValueError, match="2 networks were given to heads for 1"):
        heads([[], []])


def test_paper_setting_on_efficientnet_gives_sixteen_logits_per_level():
    network = load_feature_network("random:tf_efficientnet_lite0")
    built = build_discriminator(
        DiscriminatorConfig(diff_augment="", projected=ProjectedConfig(cout=4, head_width=4)),
        NONE,
        32,
        networks=[network],
    )
    assert built.features.level_sizes(32) == [(112, 56, 28, 14)]
    assert built.features.level_channels == [(4, 4, 8, 16)]
    (logits,) = built(torch.randn(1, 3, 32, 32))
    assert logits.shape == (1, 64)


@pytest.mark.parametrize("family", ["projected", "dino"])
def test_both_families_calibrate_and_keep_what_stands_before_the_heads(family):
    config = DiscriminatorConfig(
        family=family,
        features=("random:small_vit",),
        diff_augment="",
        projected=SMALL,
        dino=DinoConfig(taps=(1,)),
    )
    first, second = (build_discriminator(config, NONE, 32, seed=seed) for seed in (0, 1))
    images = torch.rand(2, 3, 32, 32)
    first.features.calibrate(images)
    second.features.load_projection_state(first.features.projection_state())
    for x, y in zip(first.features(images)[0], second.features(images)[0], strict=True):
        assert torch.equal(x, y)
    with pytest.raises(RuntimeError):
        first.features.load_projection_state({"other": images})


def wave(seed, count):
    """A fixed sequence in [-1, 1) that any language can repeat."""
    value = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + seed * 78.233) * 43758.5453
    return 2 * (value - value.floor()) - 1


def filled(name, value):
    """The tensor that the fill rule puts under a state name."""
    if name.endswith("num_batches_tracked"):
        return value
    drawn = wave(sum(ord(c) * (i + 1) for i, c in enumerate(name)) % 1000, value.numel()).view(value.shape)
    if name.endswith("running_var"):
        return 1 + 0.3 * drawn
    drawn = drawn * 3**0.5
    if name.endswith(("weight_u", "weight_v")):
        return drawn / drawn.norm()
    if name.endswith("main.1.weight"):
        return 1 + 0.1 * drawn
    scales = {"running_mean": 0.1, "bias": 0.1, "weight_orig": 0.05}
    return drawn * scales.get(name.rpartition(".")[2], 1)


@pytest.mark.golden
def test_full_width_head_from_the_fill_rule():
    """Level 2 of the published size in training mode, against the numbers of the official network."""
    head = ProjectedHead(128, 32, ConditionSpec(kind="class", dim=320, num_classes=1000))
    head.load_state_dict({key: filled(key, value).float() for key, value in head.state_dict().items()})
    x = (3**0.5 * wave(11, 2 * 128 * 28 * 28)).float().view(2, 128, 28, 28)
    y = head(x, torch.tensor([3, 917]))
    assert y.flatten()[:4].tolist() == pytest.approx([-0.124769, 0.179937, -0.645998, 0.280890], abs=1e-4)
    assert y.mean().item() == pytest.approx(0.306755, abs=1e-4)
    assert y.std().item() == pytest.approx(0.838504, abs=1e-4)


def test_an_unconditional_logit_is_added_to_the_projection():
    """f(x, c) = <phi(x), embedding(c)> + psi(phi(x)): the added part is the same whatever the condition."""
    torch.manual_seed(0)
    plain = ProjectedHead(3, 8, CLASSES, end_size=4, width=4).double()
    both = ProjectedHead(3, 8, CLASSES, end_size=4, width=4, unconditional=True).double()
    both.load_state_dict({**plain.state_dict(), "alone": both.alone.data})
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    added = [both.eval()(x, torch.tensor(c)) - plain.eval()(x, torch.tensor(c)) for c in ([0, 1], [4, 2])]
    torch.testing.assert_close(added[0], added[1])
    phi = plain.cls(plain.main(x))
    expected = torch.einsum("nchw,c->nhw", phi, both.alone)[:, None] / 8  # the root of 64 channels
    torch.testing.assert_close(added[0], expected)


def test_only_the_setting_adds_the_unconditional_logit():
    def names(**settings):
        config = DiscriminatorConfig(projected=ProjectedConfig(**settings))
        return {name for name, _ in MultiScaleHeads(config, CLASSES, (4, 4), (16, 8)).named_parameters()}

    assert names(unconditional=True) - names() == {"mini_discs.0.alone", "mini_discs.1.alone"}
