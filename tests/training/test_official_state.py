"""A published file's training state becomes a run folder that the trainer goes on from."""

from types import SimpleNamespace

import pytest
import torch
from official_discriminators import official_discriminator, write_with_discriminator
from official_pickles import official_content, official_generator
from tiny_models import tiny_model
from torch import nn

from sgxl_t.cli.main import main
from sgxl_t.networks import discriminator_xl
from sgxl_t.networks.configs import DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminator import Discriminator
from sgxl_t.networks.discriminator_xl import ProjectedHeads
from sgxl_t.networks.official_names import FEATURES, feature_reference, head_name, projection_name
from sgxl_t.networks.projector import RandomProjector
from sgxl_t.networks.vit_adapter import VitAdapter
from sgxl_t.training.config_file import parse_config
from sgxl_t.training.roles import Role
from sgxl_t.training.state import restore_state

NAMES = ["deit_base_distilled_patch16_224", "tf_efficientnet_lite0_1"]
CHANNELS = [(2, 4, 8, 16), (3, 5, 6, 7)]


@pytest.fixture
def narrow(monkeypatch):
    """Heads of the release's shape, a sixty-fourth as wide."""
    monkeypatch.setattr(
        discriminator_xl,
        "WIDTHS",
        {side: max(width // 64, 1) for side, width in discriminator_xl.WIDTHS.items()},
    )


def projection(channels, config, *, vit):
    module = nn.Module()
    module.scratch = RandomProjector(channels, config)
    module.adapter = VitAdapter(16, channels) if vit else None
    return module


def discriminator_for(condition):
    sizes = ProjectedConfig(cout=4, cmap_dim=6)
    config = DiscriminatorConfig(features=tuple(FEATURES.values())[::-1], projected=sizes)
    projections = [projection(CHANNELS[0], sizes, vit=True), projection(CHANNELS[1], sizes, vit=False)]
    channels = [one.scratch.channels for one in projections]
    heads = ProjectedHeads(config, condition, channels, [(128, 64, 32, 16)] * 2)
    return Discriminator(config, SimpleNamespace(projections=projections), heads)


def test_names_of_discriminator_tensors():
    assert (
        head_name("discriminators.b.mini_discs.2.cls.weight_u", ["a", "b"])
        == "networks.1.mini_discs.2.cls.weight_u"
    )
    assert projection_name("feature_networks.a.scratch.layer0_ccm.bias", ["a"]) == "0.scratch.layer0_ccm.bias"
    assert projection_name("feature_networks.a.pretrained.layer4.4.bias", ["a"]) == "0.adapter.layer4.1.bias"
    assert projection_name("feature_networks.a.pretrained.layer4.0.bias", ["a"]) is None
    assert head_name("feature_networks.a.scratch.layer0_ccm.bias", ["a"]) is None
    assert feature_reference("tf_efficientnet_lite0_0") == FEATURES["tf_efficientnet_lite0"]
    with pytest.raises(ValueError, match="none of the release's"):
        feature_reference("vgg16")


def test_trainer_goes_on_from_an_imported_state(tmp_path, narrow, capsys):
    average, trained = tiny_model("class", "sgxl-tiny-16")[0], tiny_model("class", "sgxl-tiny-16")[0]
    for parameter in trained.parameters():
        parameter.data.add_(0.25)
    discriminator = discriminator_for(trained.condition)
    content = official_content(
        average, G=official_generator(trained), D=official_discriminator(discriminator, NAMES)
    )
    path = write_with_discriminator(tmp_path / "n.pkl", content)
    with pytest.raises(SystemExit) as left:
        main(["import", str(path), str(tmp_path / "m"), "--training-state"])
    assert left.value.code == 0
    folder = tmp_path / "m" / "training"
    assert str(folder / "run.yaml") in capsys.readouterr().out

    config = parse_config(["--config", str(folder / "run.yaml"), "--run-dir", str(folder)])
    assert config.generator == trained.config
    assert config.discriminator == discriminator.config
    assert config.schedule.kimg == 13345

    fresh = {"g": tiny_model("class", "sgxl-tiny-16")[0], "d": discriminator_for(trained.condition).heads}
    roles = {
        name: Role(one, one, torch.optim.Adam(one.parameters()), mean=lambda value: value)
        for name, one in fresh.items()
    }
    loaded = {}
    trainer = SimpleNamespace(
        folder=folder,
        ema=SimpleNamespace(network=tiny_model("class", "sgxl-tiny-16")[0]),
        features=SimpleNamespace(load_projection_state=loaded.update),
        roles=lambda: roles,
        condition_ema=None,
        objective=SimpleNamespace(load_state_dict=lambda state: loaded.update(objective=state)),
    )
    restore_state(trainer)
    assert trainer.images_seen == 12_345_000
    assert loaded["objective"]["path_length.mean"] == 0.75
    for ours, stored in [
        (trainer.ema.network, average),
        (fresh["g"], trained),
        (fresh["d"], discriminator.heads),
    ]:
        wanted = stored.state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in ours.state_dict().items())
    for index, one in enumerate(discriminator.features.projections):
        for key, value in one.state_dict().items():
            assert torch.equal(loaded[f"{index}.{key}"], value)
        assert torch.equal(loaded[f"{index}.scale"], torch.ones(4))


def refused(path, destination, capsys, words):
    with pytest.raises(SystemExit) as left:
        main(["import", str(path), str(destination), "--training-state"])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1
    assert not destination.exists()


def test_states_that_do_not_fit_leave_nothing_behind(tmp_path, narrow, capsys):
    generator = tiny_model("class", "sgxl-tiny-16")[0]
    whole = official_generator(generator)
    plain = official_content(generator, G=whole)
    path = tmp_path / "n.pkl"
    refused(write_with_discriminator(path, plain), tmp_path / "m", capsys, "holds no training state (no D)")
    discriminator = discriminator_for(generator.condition)
    for names, words in [(["vgg16", NAMES[1]], "vgg16"), (NAMES, "cls")]:
        stored = official_discriminator(discriminator, names)
        if words == "cls":
            mini = stored.discriminators[names[0]].mini_discs["1"]
            mini.cls = nn.utils.spectral_norm(nn.Conv2d(8, 5, 4, bias=False))
        write_with_discriminator(path, {**plain, "D": stored})
        refused(path, tmp_path / "m", capsys, words)
    write_with_discriminator(path, {**plain, "D": whole})
    refused(path, tmp_path / "m", capsys, "no projected discriminator")
