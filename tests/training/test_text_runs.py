"""Runs whose captions a published text encoder reads."""

import json

import pytest
import torch
from PIL import Image
from tiny_models import tiny_clip
from tiny_runs import tiny_run
from tiny_text_towers import sentence_folder, t5_folder

from sgxl_t.conditioning import TextCondition
from sgxl_t.datasets.open import open_source
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.text.transformers_text import TransformersText
from sgxl_t.networks.text.word_tower import Names, WordTower, WordTowerConfig
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.loop.fixed_captions import note_cut_captions
from sgxl_t.training.train import main


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return f"transformers:{t5_folder(tmp_path_factory.mktemp('t5') / 't5')}"


def test_a_run_with_t5_trains_saves_and_samples(t5, tmp_path, tiny_features):
    main(tiny_run(tmp_path / "run", tiny_features, cond="text", conditioning__text_encoder=t5))
    folder = tmp_path / "run" / "best"
    stored = json.loads((folder / "text_encoder" / "config.json").read_text())
    assert stored["reference"] == t5
    picture = Pipeline.from_pretrained(folder)("a red fox").images[0]
    assert picture.size == (16, 16)


@pytest.mark.parametrize("kind", ["sentences", "words"])
def test_a_run_with_an_encoder_that_knows_all_words_carries_it(kind, tmp_path, tiny_features):
    if kind == "words":
        tower = WordTower(WordTowerConfig(dim=12, rows=200, width=16), Names(("fox",), (), 1.0))
        tower.save_text(tmp_path / "tower")
        reference = f"local:{tmp_path / 'tower'}"
    else:
        reference = f"transformers:{sentence_folder(tmp_path / 'sentences')}"
    settings = {"generator__stylegan_t__attention_resolutions": "[8]"}
    main(
        tiny_run(
            tmp_path / "run", tiny_features, cond="text", conditioning__text_encoder=reference, **settings
        )
    )
    pipe = Pipeline.from_pretrained(tmp_path / "run" / "last")
    captions = ["a red fox", "zyzzyva"]
    own, given = pipe.condition.encoder, load_text_encoder(reference)
    assert torch.equal(own.encode_text(captions), given.encode_text(captions))
    if kind == "words":
        assert own.unknown_words(captions).keys() == {"zyzzyva"}, "of the run's own captions"
    assert pipe("a zyzzyva in snow").images[0].size == (16, 16)


def test_joined_encoders_train_and_the_clip_among_them_guides(t5, tmp_path, tiny_features):
    clip = f"local:{tiny_features / 'clip'}"
    settings = {"objective__clip_weight": 0.2, "conditioning__train_text_encoder": "true"}
    main(
        tiny_run(
            tmp_path / "run",
            tiny_features,
            cond="text",
            conditioning__text_encoder=f"{t5}+{clip}",
            optimizer__text_lr=0.01,
            **settings,
        )
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert any("loss/clip" in line for line in lines)
    pipe = Pipeline.from_pretrained(tmp_path / "run" / "last")
    tower = pipe.condition.encoder.encoders[0]
    assert isinstance(tower, TransformersText)
    assert tower.reference is None, "a trained tower is stored by its weights"
    assert pipe.generator.config.z_dim == 16
    assert pipe("a red fox").images[0].size == (16, 16)


def test_guidance_without_any_image_tower_is_refused(t5, tmp_path, tiny_features, capsys):
    arguments = tiny_run(
        tmp_path, tiny_features, cond="text", conditioning__text_encoder=t5, objective__clip_weight=0.2
    )
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert (
        "needs a CLIP with an image tower: name one in conditioning.text_encoder" in capsys.readouterr().err
    )


def test_captions_of_finite_data_are_encoded_once_for_all_starts(t5, tmp_path, tiny_features, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(16):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(data / f"{number:02}.png")
        (data / f"{number:02}.txt").write_text(f"a red fox {number % 4}")
    settings = {"cond": "text", "data__source": data, "conditioning__text_encoder": t5}
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=0.008, **settings))
    assert len(list((tmp_path / "run" / "captions").iterdir())) == 1

    def no_work(self, texts):
        raise AssertionError("the captions are known")

    monkeypatch.setattr(TransformersText, "encode_text", torch.no_grad()(no_work))
    main(tiny_run(tmp_path / "run", tiny_features, schedule__kimg=0.016, **settings))


def test_captions_longer_than_the_context_are_counted_at_the_start(tmp_path, caplog):
    for name, caption in (("a", "a fox"), ("b", "a " * 10 + "red fox"), ("c", "a " * 12 + "dog")):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption)
    note_cut_captions(TextCondition(tiny_clip()), open_source(tmp_path, resolution=16))
    assert caplog.messages == [
        "2 captions are longer than the context of 12 tokens and were cut, of 3 that were looked at"
    ]
