"""Who is given what in a round of each phase, and what the losses then are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.text.tokens import TextTokens
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.path_length import path_noise

SIDE = 8


class Generator(nn.Module):
    """Gray or coloured pictures, one colour each; remembers what it was given."""

    img_resolution = SIDE

    def __init__(self, channels=3):
        super().__init__()
        self.config = type("Config", (), {"img_channels": channels})()
        self.net = nn.Linear(4, channels)

    def forward(self, z, cond, *, update_averages=False, rng=None, pl_noise=None):
        self.given = {"z": z, "c": cond.c, "moved": update_averages, "rng": rng, "noise": pl_noise}
        self.given["text"] = cond.tokens
        images = self.net(z)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
        return images if pl_noise is None else (images, z[:, 0] * self.net.weight[0, 0])


class Features(nn.Module):
    """Two networks of a map each; remembers its last images and all streams."""

    def __init__(self):
        super().__init__()
        self.streams = []

    def forward(self, images, rng=None):
        self.seen = images
        self.streams.append(rng)
        return [[images * 2], [images.flatten(1)]]


class Heads(nn.Module):
    """The mean of every network's map, plus one times the condition."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.conditions = []

    def forward(self, features, cond):
        c = cond.target
        self.conditions.append(c)
        means = [maps[0].float().flatten(1).mean(1, keepdim=True) * self.scale for maps in features]
        if c is None:
            return means
        offset = c.float().reshape(len(c), -1).sum(1, keepdim=True)
        return [mean.repeat(len(c) // len(mean), 1) + offset for mean in means]


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Networks(Generator(), Heads(), Features())


def z_of(count=4):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1))


def reals(count=4):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1


def tokens(count=4):
    vectors = torch.randn(count, 3, 5, generator=torch.Generator().manual_seed(3))
    return TextTokens(vectors, torch.ones(count, 3, dtype=torch.bool))


def objective(**settings):
    return Objective(ObjectiveConfig(**{"blur_init_sigma": 0.0, **settings}))


LEARNED, FROZEN, OTHERS = (torch.full((4, 2), float(n)) for n in (1, 2, 3))


def g_round(goal, nets, *, shared=None, rng=None, guide=None):
    """A generator's round: LEARNED conditions the generator, FROZEN is what the heads project on."""
    cond = Conditioning(c=LEARNED, tokens=tokens(), target=FROZEN, guide=guide)
    batch = MicroBatch(reals(), cond, shared_fakes=[] if shared is None else shared)
    return goal.g_loss(nets, batch, z_of(), 0, rng)


def d_round(goal, nets, *, real=None, c=FROZEN, shared=(), rng=None):
    """A discriminator's round: the generator takes LEARNED, generated images are OTHERS to the heads."""
    fakes = Conditioning(c=LEARNED, tokens=tokens(), target=OTHERS)
    batch = MicroBatch(
        reals() if real is None else real, Conditioning(c=LEARNED, target=c), fakes, list(shared)
    )
    return goal.d_loss(nets, batch, z_of(), 0, rng)


def test_heads_see_the_frozen_text_where_a_learned_one_conditions_the_generator(nets):
    """StyleGAN-T, section 3.3: the tower that learns must not move what the heads project on."""
    generator, heads, _ = nets
    g_round(objective(loss="relativistic"), nets)
    assert torch.equal(generator.given["c"], LEARNED)
    assert [torch.equal(c, FROZEN) for c in heads.conditions] == [True, True]
    heads.conditions.clear()
    d_round(objective(), nets)
    assert torch.equal(generator.given["c"], LEARNED)
    assert [float(c[0, 0]) for c in heads.conditions] == [3.0, 2.0], "generated, then real images"
    goal, shared = objective(share_fakes=True), []
    g_round(goal, nets, shared=shared)
    heads.conditions.clear()
    d_round(goal, nets, shared=shared)
    assert [float(c[0, 0]) for c in heads.conditions] == [3.0, 2.0]


@pytest.mark.parametrize("settings", [{}, {"gradient_penalty": 1.0}])
def test_a_round_draws_from_its_own_stream_and_hands_tokens_on(nets, settings):
    generator, heads, features = nets
    rng = torch.Generator().manual_seed(4)
    if not settings:
        g_round(objective(loss="relativistic"), nets, rng=rng)
        assert generator.given["rng"] is rng
        assert features.streams == [rng, rng], "for generated and for real images"
        assert torch.equal(generator.given["text"][0], tokens()[0])
        assert not generator.given["moved"]
    goal = objective(**settings)
    if settings:
        heads.forward = lambda maps, cond, slopes: (
            [m[0].flatten(1).mean(1, keepdim=True) for m in maps],
            [[torch.full_like(m[0], 1 / m[0][0].numel())] for m in maps],
        )
    _, stats = d_round(goal, nets, rng=rng)
    assert generator.given["rng"] is features.streams[-1] is rng
    assert torch.equal(generator.given["text"][0], tokens()[0])
    assert generator.given["moved"]
    names = {"loss/d", "scores/real", "scores/fake", "signs/real", "signs/fake"}
    assert set(stats) == names | ({"loss/r1", "loss/r2"} if settings else set())


def test_what_is_reported_of_a_generators_round(nets):
    generator, _, _ = nets
    kept = []
    loss, stats = g_round(objective(share_fakes=True), nets, shared=kept)
    colour = generator.net(z_of()).mean(1)
    logits = torch.cat([2 * colour + 4, colour + 4])  # FROZEN adds 2 + 2
    expected = -(2 * colour + 4).mean() - (colour + 4).mean()
    torch.testing.assert_close(loss, expected)
    parts = {"loss/g": expected, "loss/g_adversarial": expected}
    parts |= {"scores/g": logits.mean(), "signs/g": logits.sign().mean()}
    torch.testing.assert_close(stats, {name: value.detach() for name, value in parts.items()})
    images = colour[:, None, None, None]
    assert generator.given["moved"], "shared images stand for the discriminator's own pass"
    assert not kept[0][0][0].requires_grad
    assert not kept[0][1][0].requires_grad
    torch.testing.assert_close(kept[0][0][0].mean((1, 2, 3), keepdim=True), 2 * images.detach())
    torch.testing.assert_close(kept[0][1][0].mean(1), colour.detach())


def test_what_is_reported_of_a_discriminators_round(nets):
    generator, _, features = nets
    loss, stats = d_round(objective(), nets)
    fake, real = generator.net(z_of()).mean(1), reals().mean((1, 2, 3))
    fakes, trues = torch.cat([2 * fake, fake]) + 6, torch.cat([2 * real, real]) + 4
    expected = sum(F.relu(1 + x).mean() for x in fakes.split(4)) + sum(
        F.relu(1 - x).mean() for x in trues.split(4)
    )
    parts = {"loss/d": expected, "scores/real": trues.mean(), "scores/fake": fakes.mean()}
    parts |= {"signs/real": trues.sign().mean(), "signs/fake": fakes.sign().mean()}
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(stats, {name: value.detach() for name, value in parts.items()})
    d_round(objective(), nets, real=reals().bfloat16())
    assert features.seen.dtype == torch.bfloat16, "generated images take the dtype of the real ones"


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_two_generated_images_beside_four_real_ones(nets, penalty):
    generator, heads, _ = nets

    def read(maps, cond, *, slopes=False):
        x = maps[0][0]  # twice the image
        score = x.square().mean((1, 2, 3))[:, None] + cond.target[:, :1]
        return ([score], [[2 * x / x[0].numel()], [torch.zeros_like(maps[1][0])]]) if slopes else [score]

    heads.forward = read
    batch = MicroBatch(reals(), Conditioning(target=FROZEN), Conditioning(target=OTHERS[:2]))
    loss, stats = objective(gradient_penalty=penalty).d_loss(nets, batch, z_of(2), 0)
    fake, real = 2 * generator(z_of(2), Conditioning()).detach(), 2 * reals()
    scores = [x.square().mean((1, 2, 3)) + offset for x, offset in ((fake, 3), (real, 2))]
    expected = F.relu(1 + scores[0]).mean() + F.relu(1 - scores[1]).mean()
    torch.testing.assert_close(stats["loss/d"], expected)
    if penalty:
        r2, r1 = ((4 * x / x[0].numel()).square().sum((1, 2, 3)).mean() for x in (fake, real))
        torch.testing.assert_close((stats["loss/r1"], stats["loss/r2"]), (r1, r2))
        expected = expected + penalty / 2 * (r1 + r2)
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_guidance_and_its_stream_reach_the_generators_loss(nets, weight):
    class Tower:
        image_size = 4

        def encode_image(self, images01):
            return images01.mean((2, 3)) + 0.1

    config = ObjectiveConfig(blur_init_sigma=0.0, clip_weight=weight, clip_crop=3)
    goal = Objective(config, clip=Tower())
    goal.guidance.clip.encode_image = lambda images: images[:, :, 0, 0] + 0.1
    text, rng = torch.eye(4, 3), torch.Generator().manual_seed(9)
    before = rng.get_state()
    loss, stats = g_round(goal, nets, rng=rng, guide=text)
    assert not torch.equal(rng.get_state(), before), "the place of CLIP's crop is drawn from the stream"
    torch.testing.assert_close(loss.detach(), stats["loss/g_adversarial"] + weight * stats["loss/clip"])
    assert stats["loss/g"] == loss


@pytest.mark.parametrize(
    ("weight", "iteration", "images_seen", "due"),
    [
        (0.25, 0, 2000, True),
        (0.25, 8, 2000, True),
        (0.25, 8, 1999, False),
        (0.25, 7, 2000, False),
        (0.0, 8, 2000, False),
        (2.0, 8, 10**7, True),
    ],
)
def test_path_lengths_are_due_every_so_many_iterations_from_their_start_on(
    weight, iteration, images_seen, due
):
    settings = {"pl_weight": weight, "pl_interval": 4, "pl_start_kimg": 2.0}
    middle = ("pl",) if due else ()
    assert objective(**settings).phases(iteration, images_seen) == ("g", *middle, "d")
    assert objective(order="d_first", **settings).phases(iteration, images_seen) == ("d", "g", *middle)


@pytest.mark.parametrize(("shrink", "latents", "count"), [(2, 4, 2), (3, 4, 1), (1, 4, 4), (8, 4, 1)])
def test_a_round_of_path_lengths(nets, shrink, latents, count):
    generator, goal = nets[0], objective(pl_weight=0.5, pl_batch_shrink=shrink, pl_decay=0.25)
    rng = torch.Generator().manual_seed(7)
    batch = MicroBatch(reals(), Conditioning(c=LEARNED, tokens=tokens()))
    loss, stats = goal.pl_loss(generator, batch, z_of(latents), rng)
    given = generator.given
    assert torch.equal(given["z"], z_of(latents)[:count])
    assert torch.equal(given["c"], LEARNED[:count])
    assert torch.equal(given["text"][0], tokens()[0][:count])
    assert given["rng"] is rng
    noise = path_noise((count, 3, SIDE, SIDE), torch.Generator().manual_seed(7), torch.device("cpu"))
    assert torch.equal(given["noise"], noise)
    assert not given["moved"]
    lengths = z_of(latents)[:count, 0] * generator.net.weight[0, 0]
    mean = 0.25 * lengths.mean()
    torch.testing.assert_close(loss, 0.5 * (lengths - mean).square().mean())
    torch.testing.assert_close(stats["loss/path_length"], (lengths - mean).square().mean().detach())
    torch.testing.assert_close(stats["path_length/mean"], mean.detach())


def test_path_lengths_of_a_wrapped_generator_in_all_phases_and_of_a_black_picture(nets):
    generator = Generator(channels=1)
    nn.init.zeros_(generator.net.bias)
    wrapped = nn.Module()
    wrapped.module, wrapped.forward = generator, generator.forward
    goal = objective(pl_weight=0.5, average_w="all_phases")
    loss, _ = goal.pl_loss(wrapped, MicroBatch(reals(), Conditioning()), torch.zeros(1, 4))
    assert loss.item() == 0, "a mean of zero divides nothing"
    assert generator.given["moved"]
    assert generator.given["noise"].shape == (1, 1, SIDE, SIDE)
    assert generator.given["c"] is None


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
@pytest.mark.parametrize("equal", [False, True])
def test_texts_that_differ_in_one_number_are_mismatched(nets, loss, equal):
    goal = objective(mismatch_weight=0.5, loss=loss)
    c = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 0.0]])
    if equal:
        c = torch.ones(4, 2)
    total, stats = d_round(goal, nets, c=c)
    plain, _ = d_round(objective(loss=loss), nets, c=c)
    colour = reals().mean((1, 2, 3))
    expected = torch.tensor(0.0)
    for scale in (2.0, 1.0):
        own = scale * colour + c.sum(1)
        beside = scale * colour + c.roll(1, 0).sum(1)
        terms = F.softplus(beside - own) if loss == "relativistic" else F.relu(1 + beside)
        expected = expected + (0 if equal else terms[2:].sum() / 2)  # the third and the fourth differ
    torch.testing.assert_close(stats["loss/mismatch"], expected)
    torch.testing.assert_close(total - plain, 0.5 * expected)
