"""Layers that are computed once more in the backward pass: the same numbers, less memory."""

import pytest
import torch
from launches import torchrun
from tiny_runs import tiny_run

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config, StyleGANTConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops import backend
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.compute_config import ComputeConfig, chosen_backend
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.memory.dry_run import planned
from sgxl_t.training.memory.estimate import estimate_step
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.train import main

SIZES = {
    "stylegan3": GeneratorConfig(
        family="stylegan3",
        img_resolution=16,
        z_dim=8,
        stylegan3=StyleGAN3Config(
            w_dim=16, num_layers=5, channel_base=512, channel_max=16, margin_size=2, conv_clamp=1.0
        ),
    ),
    "stylegan_t": GeneratorConfig(
        family="stylegan_t",
        img_resolution=32,
        z_dim=8,
        stylegan_t=StyleGANTConfig(
            channel_base=512, channel_max=16, num_res_blocks=1, norm_groups=4, layer_scale_init=0.1
        ),
    ),
}
BY_FAMILY = pytest.mark.parametrize("family", SIZES)


def build(family):
    torch.manual_seed(0)
    generator = Generator(SIZES[family], ConditionSpec(kind="class", dim=8, num_classes=3))
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    return generator


def backward(generator, *, lengths=False, dtype=None):
    """Pictures, gradients by name and buffers after a backward pass; noise is drawn from a stream."""
    generator.zero_grad()
    rng = torch.Generator().manual_seed(1)
    z, c = torch.randn(4, 8, generator=rng), torch.tensor([0, 1, 2, 0])
    side = generator.img_resolution
    noise = torch.randn(4, 3, side, side, generator=rng) / side
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        options = {"update_averages": True, "rng": rng}
        if lengths:
            images, lengths = generator(z, c, pl_noise=noise, **options)
            loss = (lengths - 1).square().mean() + images.mean() * 0.1
        else:
            images = generator(z, c, **options)
            loss = (images * noise).sum()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}
    return images.detach(), gradients, {name: value.clone() for name, value in generator.named_buffers()}


def assert_same(first, second):
    torch.testing.assert_close(second[0], first[0], rtol=0, atol=0)
    assert first[1].keys() == second[1].keys()
    for found, wanted in ((second[1], first[1]), (second[2], first[2])):
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


@BY_FAMILY
@pytest.mark.parametrize("lengths", [False, True], ids=["pictures", "path lengths"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_pictures_gradients_and_averages_are_the_same_bit_for_bit(family, lengths, dtype):
    plain, saving = build(family), build(family)
    saving.recompute_from(8)
    assert_same(backward(plain, lengths=lengths, dtype=dtype), backward(saving, lengths=lengths, dtype=dtype))


@BY_FAMILY
def test_the_backward_pass_keeps_the_form_of_the_forward_pass(family):
    """Layers that run again in another thread, or after the block that chose the form, take the same one."""

    def gradients(generator):
        rng = torch.Generator().manual_seed(1)
        with backend.use(conv="winograd", always=True):
            loss = generator(torch.randn(2, 8, generator=rng), torch.tensor([0, 1]), rng=rng).square().mean()
        loss.backward()
        return [p.grad for p in generator.parameters()]

    plain, saving = build(family), build(family)
    saving.recompute_from(8)
    for mine, other in zip(gradients(plain), gradients(saving), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


def held(generator):
    """Bytes that wait for the backward pass, of storages counted once; parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in generator.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage  # held, so that no address is given twice
        return tensor

    rng = torch.Generator().manual_seed(1)
    z, c = torch.randn(4, 8, generator=rng), torch.tensor([0, 1, 2, 0])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        generator(z, c, rng=rng)
    return sum(storage.nbytes() for storage in storages.values())


@BY_FAMILY
def test_less_waits_for_the_backward_pass_the_lower_the_side(family):
    generator = build(family)
    sides = (None, 32, 8) if family == "stylegan_t" else (None, 17, 8)
    sizes = []
    for side in sides:
        generator.recompute_from(side)
        sizes.append(held(generator))
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < sizes[0] / 2


@BY_FAMILY
def test_nothing_is_kept_or_run_twice_without_gradients(family):
    generator = build(family)
    generator.recompute_from(8)
    runs = []
    generator.synthesis.register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        images = generator(torch.randn(2, 8), torch.tensor([0, 1]), noise_mode="const")
    assert len(runs) == 1
    assert not images.requires_grad


# Runs ----------------------------------------------------------------------------------------------------


def networks_of(folder):
    _, parts, state = load_newest(folder / "checkpoints")
    return {name: tensors for name, tensors in parts.items() if name != "projection"}, state


@BY_FAMILY
def test_a_run_ends_at_the_same_weights_and_its_model_knows_nothing_of_it(tmp_path, tiny_features, family):
    settings = {"generator": family, "objective__pl_weight": 1, "objective__pl_start_kimg": 0}
    for name, more in (("plain", {}), ("saving", {"compute__checkpoint_from": 8})):
        folder = tmp_path / name
        main(tiny_run(folder, tiny_features, deterministic="true", **settings, **more))
    (plain, _), (saving, _) = networks_of(tmp_path / "plain"), networks_of(tmp_path / "saving")
    for part, tensors in plain.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, saving[part][name]), f"{part} {name}"
    generator, _, _ = load_model(tmp_path / "saving" / "last")
    assert generator.synthesis.recompute_from is None
    assert "checkpoint_from" not in (tmp_path / "saving" / "last" / "config.json").read_text()


def test_a_run_goes_on_with_other_choices(tmp_path, tiny_features):
    main(tiny_run(tmp_path, tiny_features, schedule__kimg=0.008))
    more = {"compute__checkpoint_from": 8, "compute__conv": "winograd"}
    main(tiny_run(tmp_path, tiny_features, **more))
    _, state = networks_of(tmp_path)
    assert state["images_seen"] == 16
    assert state["config"]["compute"] == {"conv": "winograd", "filter": "band", "checkpoint_from": 8}


def test_the_estimate_follows_the_choice(tmp_path, tiny_features):
    def maps(**more):
        arguments = tiny_run(tmp_path / "run", tiny_features, generator__stylegan_t__channel_max=64, **more)
        (run,) = plan_run(parse_config(arguments)).stages
        return {phase.name: phase.apart for phase in estimate_step(planned(run), 8).phases}

    sizes = {"generator__stylegan_t__channel_base": 1024, "discriminator__diff_augment": ""}
    plain, saving = maps(**sizes), maps(**sizes, compute__checkpoint_from=8)
    assert saving["g"] < 0.8 * plain["g"]
    assert saving["d"] == plain["d"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero2", "zero3", "fsdp"])
def test_two_processes_end_at_the_same_weights(mode, tmp_path, tiny_features):
    for name, more in (("plain", {}), ("saving", {"compute__checkpoint_from": 8})):
        settings = {"batch__per_device": 2, "generator__stylegan_t__use_noise": "true", **more}
        arguments = tiny_run(tmp_path / name, tiny_features, **settings)
        answer = torchrun(arguments, mode=mode)
        assert answer.returncode == 0, answer.stderr
    (plain, _), (saving, _) = networks_of(tmp_path / "plain"), networks_of(tmp_path / "saving")
    for part, tensors in plain.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(saving[part][name], tensor, msg=f"{mode} {part} {name}")


# The configuration ---------------------------------------------------------------------------------------


def test_forms_hold_for_the_whole_process_and_end_with_the_run():
    before = backend.current()
    with chosen_backend(ComputeConfig(conv="winograd", filter="compiled")):
        assert (backend.current().conv, backend.current().filter) == ("winograd", "compiled")
    assert backend.current() == before


def test_the_trainer_computes_in_the_chosen_form(tmp_path, tiny_features, monkeypatch):
    seen = []
    known = backend.conv_backend
    monkeypatch.setattr(
        "sgxl_t.ops.conv.modulated_conv.conv_backend",
        lambda *a: seen.append(backend.current().conv) or known(*a),
    )
    main(tiny_run(tmp_path, tiny_features, compute__conv="winograd"))
    assert set(seen) >= {"winograd"}
    assert backend.current().conv == "direct"


@pytest.mark.parametrize(
    ("name", "value"), [("checkpoint_from", "0"), ("checkpoint_from", "many"), ("conv", "fast")]
)
def test_mistakes_are_one_sentence(name, value):
    with pytest.raises(ValueError, match=f"compute.{name}") as caught:
        parse_config([f"--compute.{name}", value])
    assert "\n" not in str(caught.value)
    assert value in str(caught.value)


def test_the_help_explains_every_choice(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--help-all"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("--compute.conv", "--compute.filter", "--compute.checkpoint_from", "saves memory"):
        assert words in shown
