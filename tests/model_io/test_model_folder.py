import json
import struct
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import PETS, tiny_folder, tiny_model

from sgxl_t.model_io.model_folder import load_model, read_info, save_model, weight_shapes

KINDS = ("class", "text", "none")
WEIGHTS, CONFIG = "generator.safetensors", "config.json"


@pytest.mark.parametrize("name", ["sgt-tiny-16", "sgxl-tiny-16"])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_model_makes_the_same_pictures(tmp_path, kind, name):
    generator, condition = tiny_model(kind, name)
    save_model(tmp_path / "m", generator, condition, {"seed": 1})
    loaded, restored, info = load_model(tmp_path / "m")
    request = {"class": ["dog", 3], "text": ["a red fox", "a blue car"], "none": [None, None]}[kind]
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # recording gradients takes other, equal, forms of operators
        pictures = [
            g(z, c.encode(request), truncation_psi=0.7, noise_mode="const")
            for g, c in ((generator, condition), (loaded, restored))
        ]
    assert torch.equal(*pictures)
    assert restored.spec == condition.spec
    assert restored.names == condition.names
    assert info.generator == generator.config
    assert info.provenance == {"seed": 1}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_folder_holds_tensors_json_and_a_card_and_no_code(tmp_path):
    generator, condition = tiny_model("text")
    metrics = {"fd_judge": {"value": 1.25, "images": 1000}}
    facts = {"data": "emoji|scenes", "licence": "cc0-1.0", "features": ["local:a"], "seed": 7}
    save_model(tmp_path / "m", generator, condition, facts, metrics)
    files = {
        path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").rglob("*") if path.is_file()
    }
    text = {"text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/vocabulary.json"}
    assert files == {CONFIG, WEIGHTS, "README.md", "metrics.json"} | text
    card = (tmp_path / "m" / "README.md").read_text()
    for part in ("license: cc0-1.0", "| Data | emoji/scenes |", "| fd_judge.value | 1.25 |", "| Seed | 7 |"):
        assert part in card
    assert read_info(tmp_path / "m").metrics == metrics


def test_float16_halves_the_file_and_loads_as_float32(tmp_path):
    generator, condition = tiny_model("class")
    for dtype in ("float32", "float16"):
        save_model(tmp_path / dtype, generator, condition, {}, dtype=dtype)
    small, large = ((tmp_path / dtype / WEIGHTS).stat().st_size for dtype in ("float16", "float32"))
    assert small < 0.7 * large
    loaded = load_model(tmp_path / "float16")[0].state_dict()
    for key, value in generator.state_dict().items():
        assert loaded[key].dtype == value.dtype
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-4)


def test_loading_leaves_the_random_state_alone(tmp_path):
    tiny_folder(tmp_path / "m", "none")
    state = torch.random.get_rng_state()
    load_model(tmp_path / "m")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_saving_again_replaces_the_model_and_leaves_nothing_beside_it(tmp_path):
    tiny_folder(tmp_path / "m", "text")
    tiny_folder(tmp_path / "m", "class")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert not (tmp_path / "m" / "text_encoder").exists()
    assert read_info(tmp_path / "m").class_names == PETS


def test_saving_never_replaces_a_folder_of_something_else(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds other files"):
        tiny_folder(tmp_path / "m", "none")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_saving_keeps_the_old_model_and_no_half_one(tmp_path, monkeypatch, error):
    tiny_folder(tmp_path / "m", "class")
    before = (tmp_path / "m" / WEIGHTS).read_bytes()

    def stop(*_):
        raise error

    monkeypatch.setattr("sgxl_t.model_io.model_folder.model_card", stop)
    with pytest.raises(error):
        tiny_folder(tmp_path / "m", "none")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == before


def test_model_that_went_astray_is_not_saved(tmp_path):
    generator, condition = tiny_model("none")
    with torch.no_grad():
        next(generator.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        save_model(tmp_path / "m", generator, condition, {})
    assert list(tmp_path.iterdir()) == []


def _tensors(change):
    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors, next(iter(sorted(tensors))))
        save_file(tensors, folder / WEIGHTS)

    return damage


def _config(change):
    def damage(folder):
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return damage


def _cut(name, keep):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def _huge_header(folder):
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def _pickle(folder):
    torch.save({"a": torch.zeros(1)}, folder / WEIGHTS)


DAMAGES = {
    "missing tensor": (_tensors(lambda t, k: t.pop(k)), "missing: mapping"),
    "unexpected tensor": (_tensors(lambda t, k: t.update(surprise=torch.zeros(1))), "unexpected: surprise"),
    "differently shaped tensor": (
        _tensors(lambda t, k: t.update({k: torch.zeros(*t[k].shape, 2)})),
        "differently shaped: mapping",
    ),
    "not a number": (_tensors(lambda t, k: t[k].view(-1)[:1].fill_(float("nan"))), "not finite in mapping"),
    "wrong type": (_tensors(lambda t, k: t.update({k: t[k].int()})), "as I32 where"),
    "truncated weights": (_cut(WEIGHTS, -10), "truncated or no safetensors"),
    "empty weights": (_cut(WEIGHTS, 0), "truncated or no safetensors"),
    "huge header": (_huge_header, "truncated or no safetensors"),
    "pickle": (_pickle, "truncated or no safetensors"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "generator.safetensors is missing"),
    "no config": (lambda f: (f / CONFIG).unlink(), "holds no config.json"),
    "cut config": (_cut(CONFIG, 100), "config.json is not valid JSON"),
    "config is a list": (
        lambda f: (f / CONFIG).write_text("[1]"),
        "is a list of 1 where a group",
    ),
    "deep config": (lambda f: (f / CONFIG).write_text("[" * 100_000), "nested deeper than"),
    "unknown format": (
        _config(lambda c: c.update(format=99)),
        "format is 99 and this version reads format 1",
    ),
    "no generator": (_config(lambda c: c.pop("generator")), 'has no "generator"'),
    "missing key": (_config(lambda c: c["generator"].pop("z_dim")), 'generator has no "z_dim"'),
    "unknown key": (
        _config(lambda c: c["generator"].update(zz=1)),
        'generator has "zz", which is not a setting',
    ),
    "text for a number": (
        _config(lambda c: c["generator"].update(z_dim="64")),
        "z_dim is text where a whole",
    ),
    "yes for a number": (
        _config(lambda c: c["generator"].update(z_dim=True)),
        "z_dim is true where a",
    ),
    "unknown family": (
        _config(lambda c: c["generator"].update(family="vae")),
        "family is vae and not",
    ),
    "absurd size": (_config(lambda c: c["generator"].update(z_dim=10**12)), "z_dim is 1000000000000 where"),
    "negative size": (_config(lambda c: c["generator"].update(z_dim=-3)), "z_dim is -3 where"),
    "odd resolution": (_config(lambda c: c["generator"].update(img_resolution=24)), "24"),
    "other size": (_config(lambda c: c["generator"].update(z_dim=32)), "differently shaped"),
    "wide layers": (_config(lambda c: c["generator"]["stylegan_t"].update(channel_max=2**20)), "differently"),
    "endless layers": (
        _config(lambda c: c["generator"]["stylegan_t"].update(num_res_blocks=10**6)),
        "num_res_blocks is 1000000 where a whole number from 0 to 64 belongs",
    ),
    "impossible filter": (
        _config(
            lambda c: (
                c["generator"].update(family="stylegan3")
                or c["generator"]["stylegan3"].update(first_cutoff=-1.0)
            )
        ),
        "describes a generator that cannot be built",
    ),
    "other condition": (_config(lambda c: c["condition"].update(num_classes=9)), "names has 4 entries"),
    "condition kind": (
        _config(lambda c: c["condition"].update(kind="audio")),
        "kind is audio and not",
    ),
    "labels are numbers": (
        lambda f: (f / "labels.json").write_text('{"names": [1]}'),
        "names[0] is 1 where text",
    ),
    "no labels": (lambda f: (f / "labels.json").unlink(), "labels.json is missing"),
    "large json": (lambda f: (f / "labels.json").write_text(" " * 2**23 + "  "), "more than"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folder_is_refused_in_one_sentence_that_names_the_damage(tmp_path, damage):
    folder = tiny_folder(tmp_path / "m", "class")
    change, sentence = DAMAGES[damage]
    change(folder)
    with pytest.raises(ValueError, match=r".") as error:
        load_model(folder)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["config.json", "model.safetensors", "vocabulary.json"])
def test_text_model_without_a_whole_text_encoder_is_refused(tmp_path, part):
    folder = tiny_folder(tmp_path / "m", "text")
    (folder / "text_encoder" / part).write_bytes(b"{")
    with pytest.raises(ValueError, match="text_encoder"):
        load_model(folder)
    (folder / "text_encoder" / part).unlink()
    with pytest.raises(ValueError, match=r"text_encoder.*missing"):
        load_model(folder)


def test_text_encoder_of_another_width_is_refused(tmp_path):
    from tiny_models import tiny_clip

    folder = tiny_folder(tmp_path / "m", "text")
    tiny_clip(dim=24).save_text(folder / "text_encoder")
    with pytest.raises(ValueError, match="features of 24 numbers and the generator takes 16"):
        load_model(folder)


def test_header_tells_the_shapes_without_reading_weights(tmp_path):
    folder = tiny_folder(tmp_path / "m", "none")
    generator = tiny_model("none")[0]
    assert weight_shapes(folder) == {name: tuple(t.shape) for name, t in generator.state_dict().items()}


def test_the_card_of_a_class_model_asks_for_a_class_by_its_name(tmp_path):
    from sgxl_t.model_io.model_card import model_card

    generator, condition = tiny_model("class")
    card = partial(model_card, "m", generator.config, condition.spec, 5, {}, None)
    assert 'pipe("fox", seed=1' in card(("$(id)", "fox", "cat"))
    assert "sgxl-t sample --class fox --model" in card(("fox",))
    for names in ((), ("$(id)", 'a"b', "-x", "3", "two words")):  # an index means the same and harms nobody
        assert 'pipe("0", seed=1' in card(names)
    assert "--class 0 --model" in card(())


def test_card_names_the_licence_only_when_it_is_one_word(tmp_path):
    from sgxl_t.model_io.model_card import model_card

    generator, condition = tiny_model("none")
    config = replace(generator.config)
    card = model_card("m", config, condition.spec, 5, {"licence": "mine: ask\nme"}, None)
    assert "license: other" in card
    assert "None were measured." in card
