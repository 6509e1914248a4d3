"""The objective of a round: what is frozen, what is blurred, what each switch changes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sgxl_t.networks.conditioning import Conditioning, as_conditioning
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.ops.resample.blur import gaussian_blur

PLAIN = ObjectiveConfig(blur_init_sigma=0.0)


class TinyGenerator(nn.Module):
    img_resolution = 8

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"img_channels": 3})()
        self.net = nn.Linear(4, 3 * 64)
        self.moved = []

    def forward(self, z, cond=None, *, update_averages=False, rng=None, pl_noise=None):
        self.moved.append(update_averages)
        images = self.net(z).reshape(-1, 3, 8, 8)
        if pl_noise is None:
            return images
        gradient = torch.autograd.grad((images.tanh() * pl_noise).sum(), images, create_graph=True)[0]
        return images, gradient.square().sum((1, 2, 3)).sqrt()


class TinyFeatures(nn.Module):
    """Two frozen networks of one map each; remembers what it saw."""

    def forward(self, images, rng=None):
        self.seen, self.graph = images.detach(), images.requires_grad
        return [[images], [images.flatten(1)]]


class TinyHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(192, 5), nn.Linear(192, 2)
        self.conditions = []

    def forward(self, features, cond):
        self.conditions.append(cond.target)
        return [self.first(features[0][0].flatten(1)), self.second(features[1][0])]


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Networks(TinyGenerator(), TinyHeads(), TinyFeatures())


def latents(count=4):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1))


def reals(count=4):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1


def batch(c=None, **more):
    return MicroBatch(reals(), as_conditioning(c), **more)


def test_d_loss_trains_only_the_heads_and_shows_both_sides_blurred(nets):
    generator, heads, features = nets
    objective = Objective(ObjectiveConfig(blur_init_sigma=1.0, blur_fade_kimg=1.0))
    loss, stats = objective.d_loss(nets, batch(), latents(), 500)
    loss.backward()
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in heads.parameters())
    both = torch.cat([generator(latents()).detach(), reals()])
    torch.testing.assert_close(features.seen, gaussian_blur(both, 0.5))
    assert not features.graph
    assert not any(value.requires_grad for value in stats.values())
    assert stats["loss/d"] == loss


def test_d_loss_gives_each_side_its_own_condition(nets):
    c, c_fake = torch.tensor([0, 1, 2, 3]), torch.tensor([9, 8])
    Objective(PLAIN).d_loss(nets, batch(c, fake_cond=as_conditioning(c_fake)), latents(2), 0)
    assert [entry.tolist() for entry in nets.heads.conditions] == [[9, 8], [0, 1, 2, 3]]


def test_g_loss_reaches_the_generator_through_frozen_heads(nets):
    generator, heads, _ = nets
    heads.requires_grad_(False)
    loss, _ = Objective(PLAIN).g_loss(nets, batch(), latents(), 0)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())
    assert all(p.grad is None for p in heads.parameters())


@pytest.mark.parametrize(
    ("average_w", "expected"), [("d_phase", [True, False]), ("all_phases", [True, True])]
)
def test_averages_of_w_move_in_the_phases_asked_for(nets, average_w, expected):
    objective = Objective(replace(PLAIN, average_w=average_w))
    objective.d_loss(nets, batch(), latents(), 0)
    objective.g_loss(nets, batch(), latents(), 0)
    assert nets.generator.moved == expected


def test_rounds_average_to_the_loss_of_the_whole_batch(nets):
    objective = Objective(PLAIN)
    whole = objective.g_loss(nets, batch(), latents(), 0)[0]
    parts = [objective.g_loss(nets, batch(), z, 0)[0] for z in latents().split(2)]
    torch.testing.assert_close(whole, sum(parts) / 2)


class Guide:
    image_size = 8

    def logits(self, images01):
        return images01.mean((2, 3))

    encode_image = logits


def test_guidance_adds_its_weight_times_a_mean_on_unblurred_images(nets):
    config = ObjectiveConfig(cls_weight=3.0, clip_weight=0.5)
    guided = Objective(config, classifier=Guide(), clip=Guide())
    cond = Conditioning(labels=torch.tensor([0, 1, 2, 0]), guide=torch.eye(4, 3) + 0.1)
    loss, stats = guided.g_loss(nets, MicroBatch(reals(), cond), latents(), 0)
    expected = stats["loss/g_adversarial"] + 3.0 * stats["loss/classifier"] + 0.5 * stats["loss/clip"]
    torch.testing.assert_close(loss.detach(), expected)
    late = guided.g_loss(nets, MicroBatch(reals(), cond), latents(), 10**6)[1]
    assert late["loss/classifier"] == stats["loss/classifier"]
    assert late["loss/g_adversarial"] != stats["loss/g_adversarial"]


@pytest.mark.parametrize(("weight", "part"), [("cls_weight", "classifier"), ("clip_weight", "text_encoder")])
def test_guidance_without_its_network_is_refused(weight, part):
    with pytest.raises(ValueError, match=part):
        Objective(ObjectiveConfig(**{weight: 1.0}))


def test_path_length_takes_part_of_the_batch_and_all_parameters(nets):
    generator, _, _ = nets
    objective = Objective(replace(PLAIN, pl_weight=2.0))
    noise = torch.full((2, 3, 8, 8), 1 / 8)
    loss, stats = objective.pl_loss(generator, batch(), latents(), noise=noise)
    loss.backward()
    assert loss.item() == pytest.approx(2 * stats["loss/path_length"].item())
    assert all(p.grad is not None for p in generator.parameters())
    restored = Objective(PLAIN)
    restored.load_state_dict(objective.state_dict())
    assert restored.path_length.mean == objective.path_length.mean == stats["path_length/mean"]


def test_path_length_draws_its_noise_from_the_stream_handed_in(nets):
    generator, _, _ = nets
    first, second = (
        Objective(replace(PLAIN, pl_weight=1.0)).pl_loss(
            generator, batch(), latents(), torch.Generator().manual_seed(7)
        )[0]
        for _ in range(2)
    )
    assert first == second


def test_heads_project_on_the_frozen_target_and_the_generator_takes_c(nets):
    """StyleGAN-T, section 3.3: a text encoder that learns conditions the generator alone."""
    learned, frozen = torch.ones(4, 2, requires_grad=True), torch.zeros(4, 2)
    asked = []
    generator = lambda z, cond, **more: asked.append(cond) or nets.generator(z)  # noqa: E731
    networks = nets._replace(generator=generator)
    for method in (Objective(PLAIN).g_loss, Objective(PLAIN).d_loss):
        method(networks, MicroBatch(reals(), Conditioning(c=learned, target=frozen)), latents(), 0)
    assert [cond.c is learned for cond in asked] == [True, True]
    assert len(nets.heads.conditions) == 3
    assert all(target is frozen for target in nets.heads.conditions)


def test_shared_fakes_are_those_of_the_generators_phase(nets):
    objective = Objective(replace(PLAIN, share_fakes=True))
    shared = batch()
    objective.g_loss(nets, shared, latents(), 0)
    loss, _ = objective.d_loss(nets, shared, None, 0)
    plain, _ = Objective(PLAIN).d_loss(nets, batch(), latents(), 0)
    torch.testing.assert_close(loss, plain)
    assert nets.generator.moved == [True, True]
    assert shared.shared_fakes == []


def test_phases_follow_order_interval_and_start():
    objective = Objective(replace(PLAIN, pl_weight=2.0, pl_interval=4, pl_start_kimg=1.0))
    assert objective.phases(0, 0) == ("g", "d")
    assert objective.phases(4, 1000) == ("g", "pl", "d")
    assert objective.phases(5, 1000) == ("g", "d")
    assert Objective(replace(PLAIN, order="d_first")).phases(4, 10**7) == ("d", "g")


def test_the_discriminator_may_learn_alone_at_first(nets):
    objective = Objective(
        replace(PLAIN, d_alone_kimg=1.0, pl_weight=1.0, pl_start_kimg=0.0, share_fakes=True)
    )
    assert objective.phases(0, 0) == objective.phases(3, 999) == ("d",)
    assert objective.phases(4, 1000) == ("g", "pl", "d")
    loss, _ = objective.d_loss(nets, batch(), latents(), 0)  # no pictures are there to share
    torch.testing.assert_close(loss, Objective(PLAIN).d_loss(nets, batch(), latents(), 0)[0])


def test_mismatched_conditions_count_as_generated():
    from torch import nn

    class Heads(nn.Module):
        def forward(self, features, cond):
            c = cond.target
            return [features[0].repeat(len(c) // len(features[0]), 1) * c.float()[:, None]]

    config = ObjectiveConfig(mismatch_weight=0.5, blur_init_sigma=0, share_fakes=True)
    networks = Networks(None, Heads(), lambda images, rng: [images])

    def d_loss(config):
        cond = as_conditioning(torch.tensor([1, 1, 2, 3]))
        batch = MicroBatch(torch.ones(4, 1), cond, shared_fakes=[[torch.zeros(4, 1)]])
        return Objective(config).d_loss(networks, batch, None, 0)

    (loss, stats), (plain, _) = d_loss(config), d_loss(replace(config, mismatch_weight=0))
    # Neighbours' labels are 3, 1, 1, 2; the second equals its own and does not count: (4 + 2 + 3) / 3.
    assert stats["loss/mismatch"].item() == pytest.approx(3.0)
    assert (loss - plain).item() == pytest.approx(1.5)
