"""Files that real dill wrote, of classes under the releases' names: networks and training state return."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from official_names_t import text_tower_from_official_t
from official_recipes import (
    PROGRESS,
    discriminator_recipe,
    generator_recipe,
    generator_recipe_t,
    numbers,
    recipe,
    write_files,
)
from tiny_models import tiny_model
from torch import nn

from sgxl_t.cli.main import main
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.model_io.published.file import read_official
from sgxl_t.model_io.published.generator_t import generator_state_from_official_t
from sgxl_t.model_io.published.importer import import_generator, import_text_encoder
from sgxl_t.model_io.published.names import (
    feature_reference,
    generator_from_official,
    head_name,
    projection_name,
)
from sgxl_t.networks.configs import (
    ConditionSpec,
    DiscriminatorConfig,
    GeneratorConfig,
    ProjectedConfig,
    StyleGAN3Config,
    StyleGANTConfig,
    SuperresStage,
)
from sgxl_t.networks.discriminators import discriminator_xl
from sgxl_t.networks.discriminators.discriminator import Discriminator
from sgxl_t.networks.discriminators.discriminator_xl import ProjectedHeads
from sgxl_t.networks.discriminators.projector import RandomProjector
from sgxl_t.networks.discriminators.vit_adapter import VitAdapter
from sgxl_t.networks.generators.registry import build_generator, model_config
from sgxl_t.networks.generators.superres import stage_parameter_names
from sgxl_t.networks.text.clip import local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.training.callbacks.callback import Callbacks
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.networks import freeze_parts
from sgxl_t.training.parallel.trained_network import TrainedNetwork
from sgxl_t.training.start.begin import NewRun
from sgxl_t.training.train_state import TrainState

BACKBONES = {
    "deit_base_distilled_patch16_224": ("vit", "timm:deit_base_distilled_patch16_224.fb_in1k"),
    "tf_efficientnet_lite0_1": ("cnn", "timm:tf_efficientnet_lite0.in1k"),
    "resnet18": ("resnet", "timm:resnet18.tv_in1k"),
}
NAMES = list(BACKBONES)
CHANNELS = [(2, 4, 8, 16), (3, 5, 6, 7), (2, 3, 4, 5)]
HEADS = GeneratorConfig(
    img_resolution=32,
    z_dim=8,
    stylegan3=StyleGAN3Config(
        w_dim=16,
        embed_proj_dim=8,
        num_layers=5,
        channel_base=128,
        channel_max=12,
        margin_size=4,
        superres=(SuperresStage(head_layers=4),),
    ),
)
SMALL_T = GeneratorConfig(
    family="stylegan_t",
    img_resolution=16,
    z_dim=16,
    stylegan_t=StyleGANTConfig(channel_base=256, channel_max=32, num_res_blocks=1),
)
TEXT = ConditionSpec(kind="text", dim=16)
OLD_DILL = ("0.3.4", "0.3.6", "0.3.9")


def narrow_widths():
    """Heads of the release's shape, a sixty-fourth as wide."""
    return {side: max(width // 64, 1) for side, width in discriminator_xl.WIDTHS.items()}


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(discriminator_xl, "WIDTHS", narrow_widths())


def discriminator_for(condition, names=NAMES):
    """A small discriminator of ours over the named backbones."""
    sizes = ProjectedConfig(cout=4, cmap_dim=6)
    config = DiscriminatorConfig(features=tuple(BACKBONES[name][1] for name in names), projected=sizes)
    projections = []
    for name, channels in zip(names, CHANNELS, strict=False):
        module = nn.Module()
        module.scratch = RandomProjector(channels, sizes)
        module.adapter = VitAdapter(16, channels) if BACKBONES[name][0] == "vit" else None
        projections.append(module)
    channels = [one.scratch.channels for one in projections]
    heads = ProjectedHeads(config, condition, channels, [(128, 64, 32, 16)] * len(names))
    return Discriminator(config, SimpleNamespace(projections=projections), heads)


def described(condition, names=NAMES):
    kinds = [BACKBONES[name][0] for name in names]
    return discriminator_recipe(discriminator_for(condition, names), names, kinds)


def tower():
    """A CLIP text tower over the whole vocabulary, a few numbers wide."""
    import open_clip

    config = TextTowerConfig(embed_dim=16, context_length=16, width=8, heads=2, layers=2, quick_gelu=True)
    return local_clip(config, open_clip.SimpleTokenizer(context_length=16), None)


def recipes():
    """Files of every sort: three backbones, with and without classes and training state, both releases."""
    made = []
    for kind in ("class", "none"):
        generator = tiny_model(kind, "sgxl-tiny-16")[0]
        stored = generator_recipe(generator)
        everything = described(generator.condition)
        made += [
            recipe(f"xl-{kind}", stored, stored, everything, progress=PROGRESS),
            recipe(f"xl-{kind}-bare", stored),
            recipe(f"xl-{kind}-protocol-2", stored, stored, everything, progress=PROGRESS, protocol=2),
        ]
    stored = generator_recipe(tiny_model("class", "sgxl-tiny-16")[0])
    condition = tiny_model("class")[0].condition
    heads = build_generator(HEADS, condition, seed=3)
    text = build_generator(SMALL_T, TEXT, seed=3)
    plain = build_generator(SMALL_T, ConditionSpec(), seed=3)
    misfit = described(condition)
    misfit[0]["heads"][1]["last"][0] = 5
    for name in ("resnet18", "tf_efficientnet_lite0_1"):
        made.append(recipe(name, stored, stored, described(condition, [name]), progress=PROGRESS))
    unhooked = described(condition, NAMES[1:])  # plain pickle stores no closures
    unknown = [{**one, "name": "vgg16"} for one in described(condition, NAMES[2:])]
    return [
        *made,
        recipe("xl-pickle", stored, stored, unhooked, progress=PROGRESS, library="pickle"),
        recipe("xl-heads", generator_recipe(heads), generator_recipe(heads), described(condition)),
        recipe("t-text", generator_recipe_t(text, tower()), generator_recipe_t(text, tower())),
        recipe("t-none", generator_recipe_t(plain, how="persistent"), discriminator=described(condition)),
        recipe("unknown-backbone", stored, stored, unknown),
        recipe("misfit-head", stored, stored, misfit),
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One folder of all of them, of the newest dill."""
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discriminator_xl, "WIDTHS", narrow_widths())
        write_files(recipes(), folder)
    return folder


def called(arguments):
    with pytest.raises(SystemExit) as left:
        main(["import", *map(str, arguments)])
    return left.value.code


def equal(ours, stored):
    assert ours.keys() == stored.keys()
    for name, value in stored.items():
        assert torch.equal(ours[name], value.to(ours[name].dtype)), name


def check_average(folder, path):
    """The model folder holds the file's average generator."""
    generator = load_model(folder)[0]
    equal(generator.state_dict(), generator_from_official(numbers(path, "G_ema"), generator.condition))
    return generator


def check_training_state(folder, path):
    """The run folder holds the file's G and D."""
    generator = load_model(folder)[0]
    parts = load_newest(folder / "training" / "checkpoints")[1]
    equal(parts["network_g"], generator_from_official(numbers(path, "G"), generator.condition))
    stored = numbers(path, "D")
    names = list(dict.fromkeys(name.split(".")[1] for name in stored if name.startswith("discriminators.")))
    heads = {head_name(name, names): value for name, value in stored.items()}
    classes = generator.condition.num_classes
    for name in heads:
        if name and name.endswith(".embed.weight"):
            heads[name] = heads[name][:classes]
    equal(parts["network_d"], {name: value for name, value in heads.items() if name})
    mixing = {projection_name(name, names): value for name, value in stored.items()}
    scales = {f"{index}.scale": torch.ones(4) for index in range(len(names))}
    equal(parts["projection"], {name: value for name, value in mixing.items() if name} | scales)


WITH_STATE = [
    "xl-class",
    "xl-none",
    "xl-class-protocol-2",
    "xl-none-protocol-2",
    "xl-pickle",
    "xl-heads",
    "resnet18",
    "tf_efficientnet_lite0_1",
]


@pytest.mark.parametrize("name", WITH_STATE)
def test_networks_of_files_written_by_dill_come_through(files, narrow, tmp_path, name):
    path = files / f"{name}.pkl"
    assert called([path, tmp_path / "m", "--training-state"]) == 0
    check_average(tmp_path / "m", path)
    check_training_state(tmp_path / "m", path)


@pytest.mark.parametrize("name", ["xl-class-bare", "xl-none-bare"])
def test_a_file_of_the_average_alone_holds_no_training_state(files, tmp_path, capsys, name):
    path = files / f"{name}.pkl"
    assert called([path, tmp_path / "m"]) == 0
    check_average(tmp_path / "m", path)
    refused(path, tmp_path / "n", capsys, "holds no training state (no G and no D)")


def test_text_generator_of_stylegan_t_comes_through_with_its_tower(files, tmp_path, capsys):
    path = files / "t-text.pkl"
    assert called([path, tmp_path / "m"]) == 0
    assert "16 x 16 pixels, 6 layers" in capsys.readouterr().out
    generator, condition, info = load_model(tmp_path / "m")
    stored = numbers(path, "G_ema")
    equal(generator.state_dict(), generator_state_from_official_t(stored))
    equal(condition.encoder.text_tensors(), text_tower_from_official_t(stored))
    assert condition.encoder.text_config == tower().text_config
    assert generator.config == SMALL_T
    assert "StyleGAN-T" in info.provenance["imported"]
    with torch.no_grad():
        pictures = generator(torch.randn(2, 16), condition.encode(["a fox", "a dog"]), noise_mode="const")
    assert torch.isfinite(pictures).all()
    refused(path, tmp_path / "n", capsys, "holds no training state (no D)")


def test_generator_of_stylegan_t_without_text_comes_through(files, tmp_path, capsys):
    path = files / "t-none.pkl"
    assert called([path, tmp_path / "m"]) == 0
    generator = load_model(tmp_path / "m")[0]
    equal(generator.state_dict(), generator_state_from_official_t(numbers(path, "G_ema")))
    whole = build_generator(SMALL_T, ConditionSpec(), seed=0).eval()
    whole.load_state_dict(generator.state_dict())
    with path.open("rb") as source:
        ours = import_generator(read_official(path, source))
        assert import_text_encoder(read_official(path, source)) is None
    z = torch.randn(2, 16)
    with torch.no_grad():
        assert torch.equal(ours(z, noise_mode="const"), whole(z, noise_mode="const"))


def test_trainer_goes_on_from_an_imported_state(files, tmp_path, narrow, capsys):
    path = files / "xl-class.pkl"
    assert called([path, tmp_path / "m", "--training-state"]) == 0
    folder = tmp_path / "m" / "training"
    said = capsys.readouterr().out
    assert str(folder / "run.yaml") in said
    assert "goes on at 123 kimg, where images are blurred by 1.18 px, until 300 kimg" in said
    config = parse_config(["--config", str(folder / "run.yaml"), "--run-dir", str(folder)])
    average = load_model(tmp_path / "m")[0]
    discriminator = discriminator_for(average.condition)
    assert config.generator == average.config
    assert config.discriminator == discriminator.config
    assert config.schedule.kimg == 1123
    assert (config.objective.blur_init_sigma, config.objective.blur_fade_kimg) == (2.0, 300.0)

    fresh = {"g": tiny_model("class", "sgxl-tiny-16")[0], "d": discriminator.heads}
    networks = {
        name: TrainedNetwork(one, one, torch.optim.Adam(one.parameters()), mean=lambda value: value)
        for name, one in fresh.items()
    }
    loaded = {}
    state = TrainState(
        **networks,
        text=None,
        ema=SimpleNamespace(network=tiny_model("class", "sgxl-tiny-16")[0]),
        condition=None,
        condition_ema=None,
        features=SimpleNamespace(load_projection_state=loaded.update),
        objective=SimpleNamespace(load_state_dict=lambda state: loaded.update(objective=state)),
        first_seed=0,
    )
    source, runtime = SimpleNamespace(fingerprint=lambda: "0" * 16), SimpleNamespace(world_size=1)
    checkpoints = RunCheckpoints(folder, runtime, source, {}, keep=1, begin=None)
    checkpoints.restore(state, Callbacks([], runtime, folder))
    assert state.images_seen == 123_000
    assert state.iteration == 1921
    assert loaded["objective"]["path_length.mean"] == 0.75
    equal(state.ema.network.state_dict(), average.state_dict())
    equal(
        fresh["g"].state_dict(),
        generator_from_official(numbers(path, "G"), average.condition),
    )


def test_heads_train_alone_as_in_the_release(files, tmp_path, narrow, capsys):
    assert called([files / "xl-heads.pkl", tmp_path / "m", "--training-state"]) == 0
    said = capsys.readouterr().out
    assert "the newest head and the Fourier input train, mapping and stem rest" in said
    assert "does not say how far it was trained: counters start at 0, without blur" in said
    folder = tmp_path / "m" / "training"
    config = parse_config(["--config", str(folder / "run.yaml"), "--run-dir", str(folder)])
    assert config.objective.blur_init_sigma == 0
    generator = build_generator(config.generator, ConditionSpec(), seed=0)
    freeze_parts(generator, config.network_settings().frozen)
    trained = [name for name, value in generator.named_parameters() if value.requires_grad]
    assert trained == stage_parameter_names(generator, train_input=True)
    assert any(name.startswith("synthesis.input.") for name in trained)
    assert not any(name.startswith("mapping.") for name in trained)
    with pytest.raises(ValueError, match="freeze_stem=true keeps what a checkpoint brings"):
        NewRun(
            folder=tmp_path / "none",
            source=None,
            seed=0,
            features=(),
            cond="none",
            resumes_only=config.freeze_stem,
        ).begin(None, None)
    with pytest.raises(ValueError, match="freeze_stem=true needs one stylegan3 generator with a head"):
        replace(config, generator=tiny_model("none", "sgxl-tiny-16")[0].config).check()


def refused(path, destination, capsys, words):
    capsys.readouterr()
    assert called([path, destination, "--training-state"]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "leave --training-state out" in printed
    assert "download" not in printed
    assert printed.count("\n") == 1
    assert not destination.exists()


def test_discriminators_that_do_not_fit_refuse_the_training_state_alone(files, tmp_path, narrow, capsys):
    for name, words in [("unknown-backbone", "'vgg16'"), ("misfit-head", "mini_discs.1.cls")]:
        path = files / f"{name}.pkl"
        refused(path, tmp_path / "m", capsys, words)
        assert called([path, tmp_path / name]) == 0
        check_average(tmp_path / name, path)
    refused(files / "t-none.pkl", tmp_path / "m", capsys, "holds no training state (no G)")


def test_names_of_discriminator_tensors():
    assert (
        head_name("discriminators.b.mini_discs.2.cls.weight_u", ["a", "b"])
        == "networks.1.mini_discs.2.cls.weight_u"
    )
    assert projection_name("feature_networks.a.scratch.layer0_ccm.bias", ["a"]) == "0.scratch.layer0_ccm.bias"
    assert projection_name("feature_networks.a.pretrained.layer4.4.bias", ["a"]) == "0.adapter.layer4.1.bias"
    assert projection_name("feature_networks.a.pretrained.layer4.0.bias", ["a"]) is None
    assert head_name("feature_networks.a.scratch.layer0_ccm.bias", ["a"]) is None
    assert feature_reference("tf_efficientnet_lite0_0") == "timm:tf_efficientnet_lite0.in1k"
    assert feature_reference("wide_resnet50_2") == "timm:wide_resnet50_2.tv_in1k"
    assert feature_reference("resnet18_1") == "timm:resnet18.tv_in1k"
    with pytest.raises(ValueError, match="not one that timm has"):
        feature_reference("vgg16")


@pytest.mark.slow
@pytest.mark.parametrize("version", OLD_DILL)
def test_files_of_older_dill_come_through(narrow, tmp_path, version):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run([*command, tmp_path / "site", f"dill=={version}"], check=True)
    said = write_files(recipes(), tmp_path / "files", [tmp_path / "site"])
    assert said.startswith(version)
    for name in WITH_STATE:
        path = tmp_path / "files" / f"{name}.pkl"
        assert called([path, tmp_path / name, "--training-state"]) == 0
        check_average(tmp_path / name, path)
        check_training_state(tmp_path / name, path)
    for name in ("xl-class-bare", "xl-none-bare"):
        path = tmp_path / "files" / f"{name}.pkl"
        assert called([path, tmp_path / name]) == 0
        check_average(tmp_path / name, path)
    for name in ("t-text", "t-none"):
        path = tmp_path / "files" / f"{name}.pkl"
        assert called([path, tmp_path / name]) == 0
        stored = generator_state_from_official_t(numbers(path, "G_ema"))
        equal(load_model(tmp_path / name)[0].state_dict(), stored)


PEAK = """
import resource, sys
from sgxl_t.model_io.published.file import read_official
from sgxl_t.model_io.published.importer import import_generator
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
with open(sys.argv[1], "rb") as source:
    stored = read_official(sys.argv[1], source)
    opened = peak()
    generator = import_generator(stored)
print(opened - before, peak() - before)
"""


@pytest.mark.slow
def test_a_large_file_takes_the_memory_of_the_wanted_generator(tmp_path):
    with torch.device("meta"):
        generator = build_generator(model_config("sgxl-imagenet-16"), ConditionSpec())
        large = generator_recipe(generator)
    size = 4 * sum(value.numel() for value in generator.state_dict().values())
    everything = described(ConditionSpec())
    write_files([recipe("large", large, large, everything, progress=PROGRESS)], tmp_path)
    path = tmp_path / "large.pkl"
    assert path.stat().st_size > 600e6
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    opened, imported = map(int, done.stdout.split())
    assert opened < 100e6
    assert imported < 1.1 * size + 100e6
    assert called([path, tmp_path / "m"]) == 0
    check_average(tmp_path / "m", path)
