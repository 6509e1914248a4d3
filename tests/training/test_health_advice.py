"""Advice names settings that exist and that change something in the run that is warned."""

import re
from dataclasses import replace
from functools import reduce

import pytest
import torch
from tiny_runs import COMMON

from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.training.callbacks.health_rules import rules_of
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.config.parts import EmaConfig

KEY = re.compile(r"\b(?:generator|discriminator|objective|optimizer|data|ema|conditioning)(?:\.[a-z]\w*)+")
SPECS = {
    "class": ConditionSpec(kind="class", dim=8, num_classes=4),
    "text": ConditionSpec(kind="text", dim=8),
    "none": ConditionSpec(),
}
CONDITIONS = {"class": torch.tensor([0, 1]), "text": torch.eye(8)[:2], "none": None}
FAMILIES = ("stylegan3", "stylegan_t")
SMALL = {name: value for name, value in COMMON.items() if name.startswith("generator.")}


def settings(cond, family, **changes):
    values = {**SMALL, "cond": cond, "generator.family": family}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return parse_config([part for name, value in values.items() for part in (f"--{name}", str(value))])


def advice(config):
    return {rule.name: rule.advice for rule in rules_of(config.health_settings())}


def named(config):
    """Every key that some advice names."""
    return {key for text in advice(config).values() for key in KEY.findall(text)}


def matters(config, key):
    """Whether another value of a key outside of the generator changes the run."""
    cond = config.cond
    always = ("optimizer.d_lr", "objective.blur_init_sigma", "ema.half_life_kimg", "data.num_workers")
    return key in always or {
        "optimizer.g_lr": not config.freeze_generator,
        "optimizer.text_lr": config.conditioning.train_text_encoder,
        "objective.blur_fade_kimg": config.objective.blur_init_sigma > 0,
        "objective.cls_weight": cond == "class",
        "objective.clip_weight": cond == "text",
        "objective.mismatch_weight": cond != "none",
        "discriminator.text_scale": cond == "text",
        "discriminator.diff_augment": not config.discriminator.diff_augment,
        "data.mirror": not config.data.mirror,
        "ema.rampup": config.ema.rampup is None,
    }.get(key, False)


def images(config: GeneratorConfig, cond):
    generator = build_generator(config, SPECS[cond], seed=0)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):  # zero at first, so that nothing would be seen of it
            torch.nn.init.ones_(parameter)
    z = torch.randn(2, config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return generator(z, CONDITIONS[cond], noise_mode="const")


def changed(config, key):
    """The generator's configuration with another value of one key."""
    _, *groups, name = key.split(".")
    holder = reduce(getattr, groups, config)
    value = getattr(holder, name)
    holder = replace(holder, **{name: not value if isinstance(value, bool) else value * 2})
    return replace(config, **{groups[0]: holder}) if groups else holder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cond", SPECS)
def test_every_key_exists_and_has_an_effect(cond, family):
    config = settings(cond, family)
    keys = named(config)
    assert {"optimizer.d_lr", "ema.half_life_kimg", "data.num_workers", "generator.z_dim"} <= keys
    for key in keys:
        reduce(getattr, key.split("."), config)
        if key.startswith("generator."):
            before, after = (images(one, cond) for one in (config.generator, changed(config.generator, key)))
            assert not torch.equal(before, after), key
        else:
            assert matters(config, key), key


@pytest.mark.parametrize("cond", ["class", "text"])
def test_the_share_of_the_condition_is_named_by_the_family_that_is_trained(cond):
    share = {"stylegan3": "embed_proj_dim", "stylegan_t": "text_scale"}
    for family in FAMILIES:
        found = advice(settings(cond, family))
        for name in ("too_alike", "condition_ignored"):
            assert f"generator.{family}.{share[family]}" in found[name]
        other = "stylegan_t" if family == "stylegan3" else "stylegan3"
        assert not any(f"generator.{other}." in text for text in found.values())


def test_what_is_off_is_not_to_be_lowered_and_what_is_on_not_to_be_set():
    plain = settings("class", "stylegan3", objective__cls_weight=0, objective__blur_init_sigma=0)
    found = advice(plain)
    assert "cls_weight" not in found["too_alike"]
    assert "blur_fade_kimg" not in found["d_too_strong"]
    assert "diff_augment" not in found["d_too_strong"]
    more = advice(
        settings(
            "class",
            "stylegan3",
            objective__cls_weight=1,
            objective__blur_init_sigma=2,
            discriminator__diff_augment="",
            data__mirror="true",
        )
    )
    assert "objective.cls_weight" in more["too_alike"]
    assert "objective.blur_fade_kimg" in more["d_too_strong"]
    assert "set discriminator.diff_augment" in more["d_too_strong"]
    assert "data.mirror" not in more["d_too_strong"]
    for rampup, said in ((0.05, False), (None, True)):
        averaged = replace(plain, ema=EmaConfig(rampup=rampup))
        assert ("ema.rampup" in advice(averaged)["average_stands"]) is said


def test_a_mapping_that_rests_is_left_alone():
    grown = replace(settings("class", "stylegan3"), stem="runs/stem/best")
    phase = replace(settings("text", "stylegan_t"), freeze_below=16)
    for config in (grown, phase):
        assert not any(key.startswith("generator.") for key in named(config))
    tower = settings("text", "stylegan_t", conditioning__train_text_encoder="true", freeze_generator="true")
    assert "optimizer.g_lr" not in named(tower)
    assert "optimizer.text_lr" in named(tower)


def test_an_encoder_without_images_guides_nothing():
    for encoder, guides in (("transformers:google-t5/t5-small", False), ("auto:clip", True)):
        changes = {"conditioning__text_encoder": encoder, "objective__clip_weight": 0}
        config = settings("text", "stylegan_t", **changes)
        assert ("objective.clip_weight" in named(config)) is guides


def test_noise_inputs_are_named_only_where_there_are_some():
    for used in ("true", "false"):
        config = settings("none", "stylegan_t", generator__stylegan_t__use_noise=used)
        assert ("noise_inputs" in advice(config)) is (used == "true")
    assert "use_noise" not in " ".join(advice(settings("none", "stylegan3")).values())
