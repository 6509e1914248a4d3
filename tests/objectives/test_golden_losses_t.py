"""One round of StyleGAN-T's two phases equals the stored reference numbers on our scale.

The reference divides every averaged hinge term by the batch once more but not the CLIP term, so its losses
and gradients are ours divided by the batch when the CLIP weight is multiplied by it (objectives/weights.py).
"""

import pytest
from golden_cases import assert_golden, descriptions, state_of, tensors
from golden_networks import augmentation_draws, t_discriminator, t_generator
from torch.nn import functional as F

from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.weights import clip_weight_from_release
from sgxl_t.ops.diff_augment import diff_augment

BATCH = 3


class StubClip:
    """The stand-in for CLIP's image tower that the stored case used."""

    image_size = 224

    def __init__(self):
        state = state_of("t_loss_g")
        self.weight, self.bias = state["clip.lin.weight"], state["clip.lin.bias"]

    def encode_image(self, images01):
        assert images01.shape[-1] == self.image_size
        pooled = F.adaptive_avg_pool2d(images01, 4).flatten(1)
        return F.normalize(F.linear(pooled, self.weight, self.bias), dim=1)


class Recorded:
    """Keeps the logits of every call of the heads."""

    def __init__(self, heads):
        self.heads, self.logits = heads, []

    def __call__(self, features, cond):
        self.logits.append(self.heads(features, cond))
        return self.logits[-1]


def set_up(name, monkeypatch, *parts):
    """Networks and objective of a case, with its recorded draws in place of our own."""
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    generator, (features, heads) = t_generator(), t_discriminator()
    noise = [case[f"draw_noise/{index:03d}"] for index in range(descriptions()[name]["n_noise_draws"])]
    monkeypatch.setattr(generator.synthesis, "draw_noise", lambda batch, device, rng: noise)
    draws = augmentation_draws(case, *parts)
    monkeypatch.setattr(
        features, "augment", lambda images, rng: diff_augment(images, features.policy, draws=draws)
    )
    config = ObjectiveConfig(
        order="d_first",
        average_w="all_phases",
        blur_init_sigma=ctor["blur_init_sigma"],
        blur_fade_kimg=ctor["blur_fade_kimg"],
        clip_weight=clip_weight_from_release(ctor["clip_weight"], BATCH),
    )
    objective = Objective(config, clip=StubClip())
    assert objective.sigma(ctor["cur_nimg"]) == pytest.approx(case["blur_sigma"].item())
    return case, ctor["cur_nimg"], objective, generator, features, heads


def assert_after(case, name, generator, heads):
    assert_golden(generator.mapping.x_avg, case["after/G.mapping.x_avg"], name)
    state = heads.state_dict()
    for key in (key for key in case if key.startswith("after/D.")):
        assert_golden(state[key.removeprefix("after/D.")], case[key], name)


def assert_gradients(case, name, network):
    vanishing = set(descriptions()[name].get("grads_mathematically_zero", ()))
    parameters = dict(network.named_parameters())
    for key in (key for key in case if key.startswith("grad/") and key not in vanishing):
        gradient = parameters[key.removeprefix("grad/")].grad / BATCH
        assert_golden(gradient, case[key], name, "grad")


@pytest.mark.golden
def test_golden_t_loss_d(monkeypatch):
    name = "t_loss_d"
    case, seen, objective, generator, features, heads = set_up(name, monkeypatch, "draw_gen/", "draw_real/")
    recorded = Recorded(heads)
    batch = MicroBatch(case["real"], as_conditioning(case["c"]))
    loss, stats = objective.d_loss(Networks(generator, recorded, features), batch, case["z"], seen)
    assert_golden(recorded.logits[0][0], case["value/scores/fake"], name)
    assert_golden(recorded.logits[1][0], case["value/scores/real"], name)
    assert_golden(loss / BATCH, case["value/D/loss"], name)
    assert stats["signs/real"].item() == pytest.approx(case["value/signs/real"].mean().item(), abs=1e-6)
    loss.backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert_gradients(case, name, heads)
    assert_after(case, name, generator, heads)


@pytest.mark.golden
def test_golden_t_loss_g(monkeypatch):
    name = "t_loss_g"
    case, seen, objective, generator, features, heads = set_up(name, monkeypatch, "draw_gen/")
    heads.requires_grad_(False)
    recorded = Recorded(heads)
    batch = MicroBatch(None, Conditioning(c=case["c"], target=case["c"], guide=case["c"]))
    loss, stats = objective.g_loss(Networks(generator, recorded, features), batch, case["z"], seen)
    assert_golden(recorded.logits[0][0], case["value/scores/fake"], name)
    assert_golden(stats["loss/g_adversarial"] / BATCH, case["value/G/loss"], name)
    assert_golden(stats["loss/clip"], case["value/G/clip_loss"], name)
    loss.backward()
    assert_gradients(case, name, generator)
    assert_after(case, name, generator, heads)
