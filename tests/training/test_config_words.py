"""What is wrong with a setting is told without Python's types, from the command line and from YAML alike."""

import pytest

from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.config.config_words import all_keys, expected, type_of

CASES = {
    ("cond", "nne"): "cond=nne is not possible: use class, text or none",
    ("generator.family", "x"): "generator.family=x is not possible: use stylegan3 or stylegan_t",
    ("discriminator.projected.proj_type", "a"): "use 0, 1 or 2",
    ("discriminator.precision", "fp8"): "use auto, fp32 or bf16",
    ("batch.images", "3.5"): "batch.images=3.5 is not possible: use a whole number",
    ("batch.per_device", "x"): "batch.per_device=x is not possible: use a whole number or null",
    ("optimizer.g_lr", "fast"): "use a number",
    ("deterministic", "maybe"): "use true or false",
    ("log.metrics", "fid"): "use a list of texts, such as [a, b]",
    ("generator.stylegan_t.attention_resolutions", "[a]"): "use a list of whole numbers, such as [8, 16]",
    ("generator.stylegan3.superres", "5"): "use a list of groups of settings",
    ("stages", "[{resolution: 16, train: all}]"): "stages.train=all is not possible: use generator, text_enc",
    ("stages", "[{name: a}]"): "stages lacks resolution",
    ("generator", "x"): "generator=x is not possible: use a group of settings",
    ("generator.famly", "x"): "there is no setting generator.famly, did you mean generator.family?",
    ("sorce", "x"): "there is no setting sorce",
}


def refused(arguments):
    with pytest.raises(ValueError, match="the configuration is not valid: ") as caught:
        parse_config(arguments)
    sentence = str(caught.value)
    assert not any(word in sentence for word in ("typing", "<class", "Literal", "Parser key", "class_path"))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_value_is_told_with_what_belongs_there(case, tmp_path):
    key, value = case
    assert CASES[case] in refused([f"--{key}", value])
    *groups, last = key.split(".")
    opening, closing = "".join(f"{group}: {{" for group in groups), "}" * len(groups)
    (tmp_path / "a.yaml").write_text(f"{opening}{last}: {value}{closing}\n")
    assert CASES[case] in refused(["--config", str(tmp_path / "a.yaml")])


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1\n", "the file is no YAML"), ("- 1\n", "holds no settings"), ("", "no settings")],
)
def test_files_that_are_no_configuration(text, words, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    assert words in refused(["--config", str(tmp_path / "a.yaml")])
    assert "does not exist: name a YAML file" in refused(["--config", str(tmp_path / "no.yaml")])


def test_what_stands_alone_or_without_value():
    assert "--seed has no value" in refused(["--seed"])
    assert "stray stands alone" in refused(["stray"])


def test_control_characters_of_a_value_are_shown():
    assert "cond=\\x1b[31m is not possible" in refused(["--cond", "\x1b[31m"])


def test_every_key_has_a_type_in_words():
    keys = all_keys()
    assert "generator.stylegan3.w_dim" in keys
    for words in (expected(type_of(key)) for key in keys):
        assert not any(mark in words for mark in ("typing", "<", "Literal"))
