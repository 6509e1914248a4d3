"""StyleGAN-T's discriminator: stored numbers, local batch statistics, preprocessing, conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from golden_cases import assert_golden, descriptions, state_of, tensors
from official_names_t import BACKBONE, heads_name_t
from torch import Tensor, nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.discriminators.discriminator_t import (
    DinoHeads,
    LocalBatchNorm,
    TokenFeatures,
    TokenHead,
    area_resize,
    readout,
)
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.ops.diff_augment import diff_augment

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TEXT = ConditionSpec(kind="text", dim=768)
CONFIG = DiscriminatorConfig(family="dino", features=("random:small_vit",), diff_augment="")


def transformer(name: str, state: dict[str, Tensor]) -> FeatureNetwork:
    """The tiny transformer of a case under timm's names."""
    ctor = descriptions()[name]["ctor"]
    ctor = ctor.get("vit", ctor)
    sizes = {
        key: ctor[key] for key in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
    }
    model = timm.models.VisionTransformer(num_classes=0, dynamic_img_size=True, **sizes)
    model.load_state_dict(state)
    return FeatureNetwork("random:tiny", model, input_size=ctor["img_size"], **IMAGENET)


def gradient(module: nn.Module, key: str, inputs: dict[str, Tensor]) -> Tensor:
    kind, name = key.split("/", 1)
    value = (dict(module.named_parameters()) if kind == "grad" else inputs)[name].grad
    assert value is not None, key
    return value


def assert_gradients(name: str, loss: Tensor, module: nn.Module, inputs: dict[str, Tensor]) -> None:
    """All stored gradients; those that vanish in theory must be small beside the weight's next to them."""
    loss.backward()
    stored = {key: value for key, value in tensors(name).items() if key.startswith("grad")}
    assert stored
    for key, value in stored.items():
        assert_golden(gradient(module, key, inputs), value, name, "grad")
    for key in descriptions()[name].get("grads_mathematically_zero", []):
        if not key.endswith("cls.bias"):
            sibling = gradient(module, key.removesuffix("bias") + "weight_orig", inputs)
            assert gradient(module, key, inputs).abs().max() < 1e-3 * sibling.abs().max()


def leaf(case: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: case[name].clone().requires_grad_() for name in names if name in case}


@pytest.mark.golden
@pytest.mark.parametrize("prefix", [f"c{index:02d}/" for index in range(5)])
def test_golden_t_batchnorm_local(prefix: str) -> None:
    name = "t_batchnorm_local"
    case = {key.removeprefix(prefix): value for key, value in tensors(name).items() if key.startswith(prefix)}
    norm = LocalBatchNorm(5)
    norm.load_state_dict({"weight": case["state/weight"], "bias": case["state/bias"]})
    x = case["x"].clone().requires_grad_()
    y = norm(x)
    assert_golden(y, case["y"], name)
    (y * case["cot"]).sum().backward()
    assert_golden(x.grad, case["grad_in/x"], name, "grad")
    assert_golden(norm.weight.grad, case["grad/weight"], name, "grad")
    assert_golden(norm.bias.grad, case["grad/bias"], name, "grad")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["t_head_cond", "t_head_uncond"])
def test_golden_head(name: str) -> None:
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    head = TokenHead(ctor["channels"], ctor["c_dim"], DinoConfig())
    head.load_state_dict(state_of(name))
    inputs = leaf(case, "x", "c")
    c = inputs.get("c")
    assert_golden(head.eval()(inputs["x"], c).unsqueeze(1), case["y_eval"], name)
    y = head.train()(inputs["x"], c).unsqueeze(1)
    assert_golden(y, case["y_train"], name)
    assert_stepped(head, case, name)
    assert_gradients(name, (y * case["cot"]).sum(), head, inputs)


def assert_stepped(module: nn.Module, case: dict[str, Tensor], name: str) -> None:
    """The spectral norms' vectors after one training forward."""
    state = module.state_dict()
    after = {key: value for key, value in case.items() if key.startswith("state_after/")}
    assert after
    for key, value in after.items():
        assert_golden(state[key.removeprefix("state_after/")], value, name)


@pytest.mark.golden
def test_golden_t_heads_from_tokens() -> None:
    name = "t_heads_from_tokens"
    case = tensors(name)
    heads = DinoHeads(CONFIG, TEXT, channels=12, n_heads=5).train()
    heads.load_state_dict({f"heads.{key}": value for key, value in state_of(name).items()})
    tokens = [case[f"tokens/{index}"].clone().requires_grad_() for index in range(5)]
    maps = [readout(value) for value in tokens]
    for index, value in enumerate(maps):
        assert_golden(value, case[f"feat/{index}"], name)
    (logits,) = heads([maps], case["c"])
    assert_golden(logits, case["logits"], name)
    inputs = {f"tokens{index}": value for index, value in enumerate(tokens)}
    assert_gradients(name, (logits * case["cot"]).sum(), heads.heads, inputs)


@pytest.mark.golden
def test_golden_t_vit_hooks() -> None:
    name = "t_vit_hooks"
    case = tensors(name)
    features = TokenFeatures(transformer(name, state_of(name)), CONFIG, img_resolution=32)
    x = case["x"].clone().requires_grad_()
    found = [readout(tokens) for tokens in features.network.backbone.tokens(x, (2, 5, 8, 11))]
    for index, value in enumerate(found):
        assert_golden(value, case[f"feat/{index}"], name)
    for index, tokens in enumerate(features.network.backbone.tokens(case["x2"], (2, 5, 8, 11))):
        assert_golden(readout(tokens), case[f"feat2/{index}"], name)
    sum((value * case[f"cot/{index}"]).sum() for index, value in enumerate(found)).backward()
    assert_golden(x.grad, case["grad_in/x"], name, "grad")


class ReplayedFeatures(TokenFeatures):
    """Takes recorded augmentation draws and a recorded crop in place of random ones."""

    recorded: dict[str, Tensor] | None = None
    crop: tuple[int, int] | None = None

    def augment(self, images: Tensor, rng: torch.Generator | None) -> Tensor:
        return images if self.recorded is None else diff_augment(images, draws=self.recorded)

    def draw_crop(self, resolution: int, rng: torch.Generator | None) -> tuple[int, int] | None:
        return self.crop


@pytest.mark.golden
@pytest.mark.parametrize("name", ["t_projected_d", "t_projected_d_resize", "t_projected_d_diffaug_crop"])
def test_golden_whole_discriminator(name: str) -> None:
    case, state = tensors(name), state_of(name)
    backbone = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
    inputs = leaf(case, "x")
    features = ReplayedFeatures(transformer(name, backbone), CONFIG, img_resolution=inputs["x"].shape[-1])
    if "crop" in case:
        top, left = case["crop"].tolist()
        features.crop = (top, left)
        features.recorded = {key[5:]: value for key, value in case.items() if key.startswith("draw/")}
    heads = DinoHeads(CONFIG, TEXT, features.channels, features.n_heads)
    heads.load_state_dict({key: value for key, value in state.items() if heads_name_t(key)})
    if "logits_eval" in case:
        with torch.no_grad():
            (evaluated,) = heads.eval()(features(case["x"]), case["c"])
        assert_golden(evaluated, case["logits_eval"], name)
    (logits,) = heads.train()(features(inputs["x"]), case["c"])
    assert_golden(logits, case["logits"], name)
    assert_stepped(heads, case, name)
    assert_gradients(name, (logits * case["cot"]).sum(), heads, inputs)


def filled(shape: torch.Size, seed: int, scale: float = 1.0) -> Tensor:
    values = np.random.RandomState(seed).randn(*shape) if shape else np.random.RandomState(seed).randn()
    return torch.as_tensor((scale * np.asarray(values)).astype(np.float32))


@pytest.mark.golden
def test_golden_recipe_head() -> None:
    head = TokenHead(384, 768, DinoConfig())
    state = head.state_dict()
    for index, name in enumerate(sorted(state)):
        value = filled(state[name].shape, 1000 + index)
        state[name].copy_(F.normalize(value, dim=0) if name.endswith(("_u", "_v")) else value)
    x = filled(torch.Size((12, 384, 196)), 5)
    c = np.random.RandomState(6).randn(12, 768)
    c = torch.from_numpy((c / np.linalg.norm(c, axis=1, keepdims=True)).astype(np.float32))
    with torch.no_grad():
        evaluated, trained = head.eval()(x, c), head.train()(x, c)
        alone = LocalBatchNorm(384)(x)
    assert measured(evaluated) == pytest.approx([-15.878907, 26.609333, 97.902382], abs=2e-3)
    assert evaluated[0, :3].tolist() == pytest.approx([-40.434788, 3.922688, -73.294846], abs=2e-3)
    assert measured(trained) == pytest.approx([-0.087491, 0.547700, 2.025590], abs=4e-5)
    assert trained[11, :3].tolist() == pytest.approx([-0.984559, 0.472347, 0.061704], abs=4e-5)
    assert alone[6, 0, :3].tolist() == pytest.approx([0.256789, 0.709095, 0.426874], abs=1e-5)


def measured(value: Tensor) -> list[float]:
    return [value.mean().item(), value.std().item(), value.abs().max().item()]


@pytest.mark.golden
def test_golden_recipe_dino_wiring() -> None:
    model = timm.create_model("vit_small_patch16_224.dino", pretrained=False)
    state = model.state_dict()
    for index, name in enumerate(sorted(state)):
        if state[name].ndim >= 2:
            state[name].copy_(filled(state[name].shape, 2000 + index, 0.05))
        else:
            state[name].fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    features = TokenFeatures(
        FeatureNetwork("x", model, input_size=224, **IMAGENET), CONFIG, img_resolution=64
    )
    images01 = torch.from_numpy(np.random.RandomState(9).rand(2, 3, 64, 64).astype(np.float32))
    with torch.no_grad():
        (maps,) = features(images01 * 2 - 1)
    expected = {
        0: ([0.106518, 3.952279, 16.554081], [-0.352814, 5.210776, 3.889921]),
        1: ([0.212537, 5.421639, 22.214153], [1.622052, 8.048078, 6.676510]),
        2: ([-0.055592, 6.773372, 29.197268], [-3.357540, 6.552714, 4.996473]),
        3: ([-0.205202, 7.962899, 32.917858], [-4.807705, 5.285304, 3.967122]),
        4: ([0.049141, 1.685688, 7.790908], [-5.128594, -2.728547, 0.858871]),
    }
    for key, (statistics, values) in expected.items():
        assert maps[key].shape == (2, 384, 196)
        assert measured(maps[key]) == pytest.approx(statistics, abs=5e-4)
        assert maps[key][0, 0, :3].tolist() == pytest.approx(values, abs=5e-4)


def test_area_resize_is_adaptive_average_pooling() -> None:
    for old, new in ((64, 224), (32, 224), (256, 224), (48, 32), (7, 5)):
        x = torch.rand(2, 3, old, old, requires_grad=True)
        y, expected = area_resize(x, new), F.interpolate(x, (new, new), mode="area")
        torch.testing.assert_close(y, expected)
        (ours,) = torch.autograd.grad(y.square().sum(), x)
        (theirs,) = torch.autograd.grad(expected.square().sum(), x)
        torch.testing.assert_close(ours, theirs)
    same = torch.rand(1, 3, 8, 8)
    assert area_resize(same, 8) is same


def test_area_resize_works_with_gradients_after_inference_mode() -> None:
    with torch.inference_mode():
        area_resize(torch.rand(1, 3, 10, 10), 6)
    x = torch.rand(1, 3, 10, 10, requires_grad=True)
    area_resize(x, 6).square().sum().backward()
    assert x.grad is not None


def test_area_resize_of_64_to_224_repeats_its_seven_pixel_pattern() -> None:
    row = torch.arange(64.0).expand(1, 1, 64, 64)
    assert area_resize(row, 224)[0, 0, 0, :7].tolist() == [0, 0, 0, 0.5, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 5, 9, 11, 17])
def test_batch_that_does_not_divide_forms_nearly_equal_groups(count: int) -> None:
    x = torch.randn(count, 4, 6)
    y = LocalBatchNorm(4)(x)
    start = 0
    for size in [len(part) for part in torch.arange(count).tensor_split(-(-count // 8))]:
        group = y[start : start + size]
        torch.testing.assert_close(group.mean((0, 2)), torch.zeros(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(group.var((0, 2), unbiased=False), torch.ones(4), atol=1e-3, rtol=0)
        start += size
    assert start == count


def test_groups_do_not_see_each_other() -> None:
    x = torch.randn(16, 4, 6)
    other = torch.cat([x[:8], torch.randn(8, 4, 6)])
    norm = LocalBatchNorm(4)
    assert torch.equal(norm(x)[:8], norm(other)[:8])


def small_features(
    config: DiscriminatorConfig = CONFIG, resolution: int = 32, side: int = 16
) -> TokenFeatures:
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=side, patch_size=4, embed_dim=8, depth=12, num_heads=2, num_classes=0
    )
    return TokenFeatures(
        FeatureNetwork("random:tiny", model, input_size=side, **IMAGENET), config, resolution
    )


@pytest.mark.parametrize(
    ("condition", "c"),
    [
        (ConditionSpec(kind="text", dim=6), torch.randn(3, 6)),
        (ConditionSpec(kind="class", dim=6, num_classes=4), torch.tensor([0, 3, 1])),
        (ConditionSpec(), None),
    ],
    ids=["text", "class", "none"],
)
def test_every_condition_gives_a_logit_per_token_and_head(condition: ConditionSpec, c: Tensor | None) -> None:
    features = small_features()
    heads = DinoHeads(CONFIG, condition, features.channels, features.n_heads)
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    (logits,) = heads(features(images), c)
    assert logits.shape == (3, 5 * 16)
    logits.sum().backward()
    assert images.grad is not None
    assert all(value.grad is not None for value in heads.parameters())
    assert all(value.grad is None for value in features.parameters())


def test_condition_changes_the_logits() -> None:
    features = small_features()
    heads = DinoHeads(CONFIG, ConditionSpec(kind="class", dim=6, num_classes=4), features.channels, 5).eval()
    maps = features(torch.rand(2, 3, 32, 32))
    first, second = heads(maps, torch.tensor([0, 0]))[0], heads(maps, torch.tensor([1, 1]))[0]
    assert not torch.allclose(first, second)


def test_crop_happens_at_its_rate_and_stays_inside() -> None:
    features = small_features()
    rng = torch.Generator().manual_seed(0)
    drawn = [features.draw_crop(32, rng) for _ in range(400)]
    corners = [corner for corner in drawn if corner is not None]
    assert 150 < len(corners) < 250
    assert min(min(corner) for corner in corners) == 0
    assert max(max(corner) for corner in corners) == 16
    assert features.draw_crop(16, rng) is None


def test_crop_shows_the_network_a_window_at_native_size(monkeypatch: pytest.MonkeyPatch) -> None:
    features = small_features(replace(CONFIG, dino=DinoConfig(crop_probability=1.0)))
    seen: list[Tensor] = []
    monkeypatch.setattr(features.network, "tokens", lambda images01, taps: seen.append(images01) or [])
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    features(images, torch.Generator().manual_seed(1))
    corner = features.draw_crop(32, torch.Generator().manual_seed(1))
    assert corner is not None
    top, left = corner
    torch.testing.assert_close(seen[0], (images[:, :, top : top + 16, left : left + 16] + 1) / 2)


def test_crops_per_sample_are_drawn_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    features = small_features(replace(CONFIG, dino=DinoConfig(crop_per_sample=True)))
    seen: list[Tensor] = []
    monkeypatch.setattr(features.network, "tokens", lambda images01, taps: seen.append(images01) or [])
    images = torch.rand(16, 3, 32, 32) * 2 - 1
    features(images, torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(1)
    corners = [features.draw_crop(32, rng) for _ in images]
    assert None in corners
    assert len(set(corners)) > 5
    for view, image, corner in zip(seen[0], (images + 1) / 2, corners, strict=True):
        if corner is None:
            torch.testing.assert_close(view, F.adaptive_avg_pool2d(image, 16))
        else:
            top, left = corner
            assert torch.equal(view, image[:, top : top + 16, left : left + 16])


def test_crops_per_sample_leave_small_images_whole() -> None:
    features = small_features(replace(CONFIG, dino=DinoConfig(crop_per_sample=True)), resolution=16)
    images = torch.rand(2, 3, 16, 16)
    together = small_features(resolution=16)(images)
    torch.testing.assert_close(features(images), together)


@pytest.mark.parametrize(
    ("name", "trained_on", "prefix", "asked", "grid"),
    [
        ("vit_small_patch16_224.dino", 224, 1, 64, 4),
        ("vit_small_patch14_reg4_dinov2", 518, 5, 70, 5),
        ("vit_small_patch16_dinov3", 256, 5, 64, 4),
    ],
)
def test_transformers_of_other_makes(name: str, trained_on: int, prefix: int, asked: int, grid: int) -> None:
    """Built without weights: registers are dropped, larger images cropped or resized to what is asked for."""
    network = load_feature_network(f"random:{name}")
    assert (network.kind, network.input_size, network.embed_dim) == ("vit", trained_on, 384)
    assert (network.backbone.prefix_tokens, network.backbone.default_taps) == (prefix, (2, 5, 8, 11))
    config = replace(CONFIG, dino=DinoConfig(input_size=asked))
    built = build_discriminator(config, ConditionSpec(), 2 * asked, networks=[network])
    images = torch.rand(2, 3, 2 * asked, 2 * asked, requires_grad=True)
    (maps,) = built.features(images, torch.Generator().manual_seed(0))
    assert [tuple(x.shape) for x in maps] == [(2, 384, grid * grid)] * 5
    (logits,) = built.heads([maps])
    assert logits.shape == (2, 5 * grid * grid)
    logits.square().sum().backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert TokenFeatures(network, CONFIG, 64).input_size == trained_on


@pytest.mark.parametrize(
    ("reference", "asked", "words"),
    [
        ("random:test_vit", 70, "input_size=70 does not divide into patches of 16 .* such as 64"),
        ("random:test_vit", 0, "input_size=0 does not divide .* such as 16"),
        ("random:small_vit", 64, "random:small_vit takes images of 32 pixels alone, leave it out"),
    ],
)
def test_sides_that_the_transformer_cannot_take(reference: str, asked: int, words: str) -> None:
    config = replace(CONFIG, dino=DinoConfig(input_size=asked))
    with pytest.raises(ValueError, match=words):
        TokenFeatures(load_feature_network(reference), config, 64)


def test_taps_are_the_ends_of_the_quarters_unless_named() -> None:
    def features(reference: str, taps: tuple[int, ...] = ()) -> TokenFeatures:
        return TokenFeatures(load_feature_network(reference), replace(CONFIG, dino=DinoConfig(taps=taps)), 64)

    assert features("random:test_vit").taps == (0, 2, 3, 5)  # six blocks
    assert features("random:small_vit").taps == (0, 1, 2, 3)
    assert features("random:test_vit", (4,)).n_heads == 2
    with pytest.raises(ValueError, match="use 0 to 5"):
        features("random:test_vit", (2, 6))


def test_each_family_names_its_own_features_where_none_are_named() -> None:
    assert DiscriminatorConfig(family="dino").features == ("timm:vit_small_patch16_224.dino",)
    assert DiscriminatorConfig().features == ("auto:cnn", "auto:vit")
    assert DiscriminatorConfig(family="dino", features=("auto:vit",)).features == ("auto:vit",)


def test_augmentation_follows_the_given_stream() -> None:
    features = small_features(replace(CONFIG, diff_augment="color,translation,cutout"), resolution=16)
    images = torch.rand(2, 3, 16, 16)

    def first_map(seed: int) -> Tensor:
        return features(images, torch.Generator().manual_seed(seed))[0][0]

    assert torch.equal(first_map(1), first_map(1))
    assert not torch.equal(first_map(1), first_map(2))


def test_features_stay_frozen_and_apart_from_the_heads() -> None:
    features = small_features()
    features.train()
    assert not any(module.training for module in features.modules())
    assert not any(value.requires_grad for value in features.parameters())
    heads = DinoHeads(CONFIG, TEXT, features.channels, features.n_heads)
    assert not any(name.startswith(BACKBONE) for name in heads.state_dict())


def test_published_head_has_the_published_size() -> None:
    with torch.device("meta"):
        text = DinoHeads(CONFIG, TEXT, 384, 5)
        plain = DinoHeads(CONFIG, ConditionSpec(), 384, 5)
    assert sum(value.numel() for value in text.parameters()) == 7_753_600
    assert sum(value.numel() for value in plain.parameters()) == 5 * 1_477_249
    shapes = {name: tuple(value.shape) for name, value in text.heads["0"].state_dict().items()}
    assert shapes["main.1.fn.0.weight_orig"] == (384, 384, 9)
    assert shapes["main.1.fn.0.weight_v"] == (3456,)
    assert shapes["cmapper.weight"] == (64, 768)


def test_mistakes_say_what_to_do() -> None:
    cnn = FeatureNetwork("random:resnet18", timm.create_model("resnet18", pretrained=False))
    with pytest.raises(ValueError, match="random:resnet18 is no vision transformer"):
        TokenFeatures(cnn, CONFIG, 32)
    with pytest.raises(ValueError, match="kernel_size=4"):
        TokenHead(8, 0, DinoConfig(kernel_size=4))
    with pytest.raises(ValueError, match="2 token maps were given to 3 heads"):
        DinoHeads(CONFIG, ConditionSpec(), 8, 3)([[torch.rand(1, 8, 4)] * 2])
