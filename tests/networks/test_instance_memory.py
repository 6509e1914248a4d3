"""A generator that remembers pictures: which one a seed draws, what that adds to a caption, what psi does."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.instance_memory import InstanceMemory
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.training.start.carry import with_or_without_memory

Z, DIM, PICTURE = 24, 16, 12
TOWER = F.normalize(torch.arange(12.0) + 1, dim=0)
"""What the network that saw the pictures says of the fixed one."""


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def remembered():
    """Four captions of sixteen pictures each: the memory, captions [4, DIM] and what was filled in."""
    captions = F.normalize(torch.randn(4, DIM, generator=rng()), dim=1)
    read = torch.linalg.qr(torch.randn(DIM, DIM, generator=rng(1)))[0][:, :PICTURE]
    every = captions.repeat_interleave(16, dim=0)
    features = F.normalize(every @ read + 0.3 * torch.randn(64, PICTURE, generator=rng(2)), dim=1)
    memory = InstanceMemory(64, DIM, PICTURE, Z)
    memory.fill(every, features, TOWER)
    return memory, captions, every, features


def drawn(memory, caption, count=400):
    z = torch.randn(count, Z, generator=rng(3))
    return memory(z, caption.expand(count, -1)), z


def test_seeds_of_a_caption_draw_its_own_pictures_and_nearly_all_of_them(remembered):
    memory, captions, every, features = remembered
    told = memory.told(every, features)
    for number, caption in enumerate(captions):
        shown, _ = drawn(memory, caption)
        apart = torch.cdist(shown, told)
        nearest = apart.argmin(1)
        own = nearest // 16 == number
        assert own.float().mean() > 0.95
        assert len(nearest[own].unique()) >= 14
        assert apart.min(1).values.median() < 0.2  # a picture itself, not a mean of several


def test_z_alone_decides(remembered):
    memory, captions, *_ = remembered
    shown, z = drawn(memory, captions[0])
    assert_close(memory(z[5:9], captions[:1].expand(4, -1)), shown[5:9])
    again = InstanceMemory(64, DIM, PICTURE, Z)
    again.load_state_dict(memory.state_dict())  # what a file holds is enough
    assert torch.equal(again(z, captions[:1].expand(len(z), -1)), shown)


def test_walks_of_z_and_of_captions_have_no_jumps(remembered):
    memory, captions, *_ = remembered
    share = torch.linspace(0, 1, 2001)[:, None]
    ends = torch.randn(2, Z, generator=rng(4))
    z = ends[:1].lerp(ends[1:], share)
    c = F.normalize(captions[:1].lerp(captions[1:2], share), dim=1)
    for shown in (memory(z, captions[:1].expand(2001, -1)), memory(z[:1].expand(2001, -1), c)):
        assert shown.diff(dim=0).norm(dim=1).max() < 1.0
        assert (shown[0] - shown[-1]).norm() > 2


def test_deviations_are_what_no_linear_function_of_the_caption_says(remembered):
    memory, _, every, features = remembered
    told = memory.told(every, features)
    assert_close(told.square().mean(), torch.tensor(1.0))
    known = torch.cat([every, torch.ones(64, 1)], dim=1)
    assert (known.T @ told).abs().max() < 0.2 * 64**0.5
    reached = torch.linalg.lstsq(known, features).solution
    assert_close(told * memory.usual, features - known @ reached, atol=0.01, rtol=0)


def test_a_caption_that_was_never_seen_draws_pictures_of_like_ones():
    """Features add up of a thing, a colour and a wobble; one pair is left out and asked for."""
    things, colours = torch.eye(8)[:4], torch.eye(8)[4:]
    pairs = [(t, k) for t in range(4) for k in range(4) if (t, k) != (0, 0)]
    captions = F.normalize(torch.stack([things[t] + colours[k] for t, k in pairs]), dim=1)
    every = captions.repeat(8, 1)
    wobble = torch.zeros(len(every), 10)
    wobble[:, 8:] = 0.2 * torch.randn(len(every), 2, generator=rng(5))
    memory = InstanceMemory(len(every), 8, 10, Z)
    memory.fill(every, torch.cat([every, torch.zeros(len(every), 2)], dim=1) + wobble, TOWER[:10])
    asked = F.normalize((things[:1] + colours[:1]), dim=1)
    shown, _ = drawn(memory, asked)
    content, kind = shown[:, :8], shown[:, 8:]
    assert content.norm(dim=1).max() < 0.1 * kind.norm(dim=1).mean()  # nothing of other things and colours
    assert kind.std(0).min() > 1


def test_what_a_generator_has_learnt_by_stays_for_the_same_network_alone(remembered):
    memory, _, every, features = remembered
    before, usual = memory.expected.clone(), memory.usual.clone()
    others = every[:20].roll(3, 0), features[:20].flip(1)
    memory.fill(*others, TOWER.half().float())
    assert torch.equal(memory.expected, before)
    assert torch.equal(memory.usual, usual)
    assert torch.equal(memory.keys[:20], memory.keys[20:40])  # fewer pictures than places
    memory.fill(*others, TOWER.flip(0))
    assert not torch.equal(memory.expected, before)
    assert not torch.equal(memory.usual, usual)


def text_generator(instances, **settings):
    config = GeneratorConfig(
        family="stylegan_t",
        img_resolution=16,
        z_dim=Z,
        stylegan_t=StyleGANTConfig(
            channel_base=128,
            channel_max=8,
            num_res_blocks=1,
            norm_groups=4,
            text_scale=3,
            instances=instances,
            **settings,
        ),
    )
    condition = ConditionSpec(kind="text", dim=DIM, picture_dim=PICTURE if instances else 0)
    return build_generator(config, condition, seed=0).eval()


def test_styles_hold_caption_and_drawn_picture_and_psi_takes_the_picture_away(remembered):
    memory, captions, every, features = remembered
    generator = text_generator(64)
    mapping = generator.mapping
    mapping.memory.load_state_dict(memory.state_dict())
    z = torch.randn(6, Z, generator=rng(6))
    c = captions[:1].expand(6, -1)
    whole = mapping(z, c)[:, 0, Z:]
    assert_close(whole, torch.cat([3 * c, memory(z, c)], dim=1))
    assert_close(mapping(z, c, truncation_psi=0)[:, 0], mapping.center(c))
    assert_close(mapping.center(c)[:, Z:], 3 * F.pad(c, (0, PICTURE)))
    half = mapping(z, c, truncation_psi=0.5, truncation_cutoff=1)
    assert_close(half[:, 0, Z:], torch.cat([3 * c, memory(z, c) / 2], dim=1))
    assert_close(half[:, 1, Z:], whole)
    given = memory.told(every[:6], features[:6])
    assert_close(mapping(z, c, pictures=given)[:, 0, Z:], torch.cat([3 * c, given], dim=1))


def test_what_a_seed_draws_is_exaggerated_and_what_a_picture_says_is_not(remembered):
    memory, captions, every, features = remembered
    mapping = text_generator(64, exaggeration=0.5).mapping
    mapping.memory.load_state_dict(memory.state_dict())
    z = torch.randn(6, Z, generator=rng(6))
    c = captions[:1].expand(6, -1)
    assert_close(mapping(z, c)[:, 0, Z:], torch.cat([3 * c, 1.5 * memory(z, c)], dim=1))
    given = memory.told(every[:6], features[:6])
    assert_close(mapping(z, c, pictures=given)[:, 0, Z:], torch.cat([3 * c, given], dim=1))


@pytest.mark.parametrize("remembers_first", [False, True])
def test_weights_go_on_with_and_without_a_memory(remembers_first, remembered):
    memory, captions, *_ = remembered
    with_memory, plain = text_generator(64), text_generator(0)
    with_memory.mapping.memory.load_state_dict(memory.state_dict())
    theirs, ours = (with_memory, plain) if remembers_first else (plain, with_memory)
    ours.load_state_dict(
        {**ours.state_dict(), **with_or_without_memory(dict(theirs.state_dict()), ours)}, strict=False
    )
    z, c = torch.randn(4, Z, generator=rng(7)), captions
    nothing = torch.zeros(4, PICTURE)
    told = Conditioning(c=c, pictures=nothing)
    with torch.no_grad():
        assert_close(
            with_memory(z, told, noise_mode="const"), plain(z, c, noise_mode="const"), atol=1e-5, rtol=1e-4
        )


def test_without_instances_nothing_is_kept_and_nothing_else_reads_pictures():
    plain, with_memory = text_generator(0), text_generator(8)
    ours, theirs = plain.state_dict(), with_memory.state_dict()
    assert {name for name in theirs if name not in ours} == {
        f"mapping.memory.{name}" for name in ("tower", "expected", "asking", "usual", "keys", "deviations")
    }
    wider = [name for name, value in ours.items() if value.shape != theirs[name].shape]
    assert wider
    assert all(".affine." in name and name.endswith(".weight") for name in wider)


def test_a_memory_needs_pictures():
    config = text_generator(8).config
    with pytest.raises(
        ValueError, match="instances=8 remembers pictures and the condition brings no features"
    ):
        build_generator(config, ConditionSpec(kind="text", dim=DIM))
    spec = replace(ConditionSpec(), picture_dim=4)
    with pytest.raises(
        ValueError, match="condition kind none with picture_dim=4: pictures stand beside captions"
    ):
        build_generator(config, spec)
