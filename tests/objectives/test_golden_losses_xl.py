"""One round of StyleGAN-XL's phases equals the stored reference numbers on our scale.

The reference adds hinge terms up over the samples of a round but averages the guidance, so its losses and
gradients are ours times the batch when the guidance weight is divided by it (objectives/weights.py).
"""

import pytest
import torch
from golden_cases import assert_golden, descriptions, state_of, tensors
from golden_networks import augmentation_draws, xl_discriminator, xl_generator
from torch.nn import functional as F

from sgxl_t.networks.backbones.feature_networks import resize
from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.networks.generators.superres import freeze_for_stage
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.weights import cls_weight_from_release
from sgxl_t.ops.diff_augment import diff_augment

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class StubClassifier:
    """The stand-in for the guidance classifier that the stored case used."""

    def __init__(self, state):
        self.state = state

    def logits(self, images01):
        x = resize((images01 - MEAN) / STD, 224)
        x = F.conv2d(x, self.state["classifier.0.weight"], self.state["classifier.0.bias"], stride=16)
        x = F.leaky_relu(x, 0.1).mean((2, 3))
        return F.linear(x, self.state["classifier.4.weight"], self.state["classifier.4.bias"])


class Recorded:
    """Keeps the logits of every call of the heads, in the reference's order."""

    def __init__(self, heads):
        self.heads, self.logits = heads, []

    def __call__(self, features, cond):
        result = self.heads(features, cond)
        self.logits.append(torch.cat([logits.flatten() for logits in result]))
        return result


class Round:
    """Networks and objective of a case, with its recorded augmentation in place of our own draws."""

    def __init__(self, name, monkeypatch, *parts):
        self.name, self.case, ctor = name, tensors(name), descriptions()[name]["ctor"]
        self.batch, self.seen = len(self.case["z"]), ctor["cur_nimg"]
        self.generator = xl_generator(ctor["generator"])
        self.features, self.heads, self.backbones = xl_discriminator(self.generator.img_resolution)
        draws = [
            augmentation_draws(self.case, *(f"{part}/{backbone}/" for part in parts))
            for backbone in self.backbones
        ]
        left = iter(draws)
        monkeypatch.setattr(
            self.features,
            "augment",
            lambda images, rng: diff_augment(images, self.features.policy, draws=next(left)),
        )
        config = ObjectiveConfig(
            blur_init_sigma=ctor["blur_init_sigma"],
            blur_fade_kimg=ctor["blur_fade_kimg"],
            cls_weight=cls_weight_from_release(ctor["cls_weight"], self.batch),
        )
        classifier = StubClassifier(state_of(name)) if ctor["cls_weight"] else None
        self.objective = Objective(config, classifier=classifier)
        self.labels = self.case["gen_c"].argmax(1)
        assert self.objective.sigma(self.seen) == pytest.approx(self.case["blur_sigma"].item())

    def to(self, dtype):
        for network in (self.generator, self.features, self.heads):
            network.to(dtype)

    def official(self, key):
        """Our name of a stored tensor."""
        for index, backbone in enumerate(self.backbones):
            key = key.replace(f"discriminators.{backbone}.", f"networks.{index}.")
        return key

    def assert_gradients(self, network):
        entry = descriptions()[self.name]
        parameters = dict(network.named_parameters())
        used = {name for name, value in parameters.items() if value.grad is not None}
        assert used == {self.official(key) for key in entry["params_with_grad"]}
        vanishing = set(entry.get("grads_mathematically_zero", ()))
        for key in (key for key in self.case if key.startswith("grad/") and key not in vanishing):
            gradient = parameters[self.official(key.removeprefix("grad/"))].grad * self.batch
            assert_golden(gradient, self.case[key], self.name, "grad")

    def assert_heads_after(self):
        state = self.heads.state_dict()
        for key in (key for key in self.case if key.startswith("after/D.")):
            assert_golden(state[self.official(key.removeprefix("after/D."))], self.case[key], self.name)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_xl_loss_dmain(dtype, monkeypatch):
    """Values in both precisions; gradients in float64, where no rounding can flip the sign of an activation.

    In float32 one flipped leaky ReLU among 56 x 56 moves two small gradients to 1.6 times their limit; in
    float64 all stay below 0.01 of it.
    """
    round_ = Round("xl_loss_dmain", monkeypatch, "draw_gen", "draw_real")
    round_.to(dtype)
    case, heads = round_.case, Recorded(round_.heads)
    loss, stats = round_.objective.d_loss(
        Networks(round_.generator, heads, round_.features),
        MicroBatch(
            case["real"].to(dtype),
            as_conditioning(case["real_c"].argmax(1)),
            fake_cond=as_conditioning(round_.labels),
        ),
        case["z"].to(dtype),
        round_.seen,
    )
    assert_golden(heads.logits[0], case["value/scores/fake"], round_.name)
    assert_golden(heads.logits[1], case["value/scores/real"], round_.name)
    assert_golden(loss * round_.batch, case["value/D/loss"], round_.name)
    assert stats["scores/real"].item() == pytest.approx(case["value/scores/real"].mean().item(), rel=1e-4)
    round_.assert_heads_after()
    assert_golden(round_.generator.mapping.w_avg, case["after/G.mapping.w_avg"], round_.name)
    if dtype == torch.float64:
        loss.backward()
        assert all(parameter.grad is None for parameter in round_.generator.parameters())
        round_.assert_gradients(round_.heads)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["xl_loss_gmain_stem", "xl_loss_gmain_superres"])
def test_golden_generator_loss(name, monkeypatch):
    round_ = Round(name, monkeypatch, "draw_gen")
    case, heads = round_.case, Recorded(round_.heads)
    round_.heads.requires_grad_(False)
    freeze_for_stage(round_.generator)
    cond = Conditioning(c=round_.labels, target=round_.labels, labels=round_.labels)
    loss, stats = round_.objective.g_loss(
        Networks(round_.generator, heads, round_.features), MicroBatch(None, cond), case["z"], round_.seen
    )
    assert_golden(heads.logits[0], case["value/scores/fake"], name)
    if "value/G/guidance_loss" in case:
        assert_golden(stats["loss/classifier"], case["value/G/guidance_loss"], name)
    assert_golden(loss * round_.batch, case["value/G/loss"], name)
    loss.backward()
    round_.assert_gradients(round_.generator)
    round_.assert_heads_after()
