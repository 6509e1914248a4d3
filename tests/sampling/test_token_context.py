"""Models that attend to the tokens of prompts: storing, sampling, mixing, ways between, metrics."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import tiny_clip, tiny_folder, tiny_model

from sgxl_t.conditioning import TextCondition
from sgxl_t.metrics.distances.ppl import ppl
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.networks.generators.registry import build_generator, model_config
from sgxl_t.networks.text.tokens import TextBlend, TextTokens
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sample_spec import InterpolationFrame, Mix, SampleSpec
from sgxl_t.sampling.styles import token_context

FOX, CAR = "a red fox", "a small blue car in snow"


def attending(scale=2.0):
    """The tiny text model with attention at 8 and 16 px that counts."""
    config = model_config("sgt-tiny-16")
    config = replace(config, stylegan_t=replace(config.stylegan_t, attention_resolutions=(8, 16)))
    condition = TextCondition(tiny_clip(), tokens=True)
    generator = build_generator(config, condition.spec, seed=1).eval()
    for name, value in generator.named_parameters():
        if name.endswith("attention.scale"):
            torch.nn.init.constant_(value, scale)
    return generator, condition


def arrays(pictures):
    return [np.asarray(image).astype(int) for image in pictures.images]


def near(one, other):
    return abs(one - other).max() <= 1


def test_without_effect_pictures_are_those_of_the_plain_model():
    plain = tiny_model("text")
    generator, condition = attending(scale=0.0)
    generator.load_state_dict(plain[0].state_dict(), strict=False)
    ours = arrays(Pipeline(generator, condition)([FOX, CAR], seeds=[0, 1]))
    theirs = arrays(Pipeline(*plain)([FOX, CAR], seeds=[0, 1]))
    assert all(map(near, ours, theirs))


def test_a_stored_model_makes_the_same_pictures(tmp_path):
    generator, condition = attending()
    folder = save_model(tmp_path / "m", generator, condition, {})
    stored = json.loads((folder / "config.json").read_text())
    assert stored["generator"]["stylegan_t"]["attention_resolutions"] == [8, 16]
    assert stored["condition"]["token_dim"] == 16
    assert "and tokens of 16" in (folder / "README.md").read_text()
    loaded = Pipeline.from_pretrained(folder)
    assert loaded.condition.spec == condition.spec
    before, after = (arrays(pipe([FOX, CAR])) for pipe in (Pipeline(generator, condition), loaded))
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_words_count_beside_the_vector_and_batches_do_not():
    generator, condition = attending()
    pipe = Pipeline(generator, condition)
    many = arrays(pipe([FOX, CAR, FOX], seeds=[0, 1]))
    few = arrays(pipe([FOX, CAR, FOX], seeds=[0, 1], batch_size=1))
    assert all(map(near, many, few))
    z, c = torch.randn(1, generator.z_dim), condition.encode([FOX])
    drawn = [
        generator(z, c._replace(tokens=condition.encode([text]).tokens), noise_mode="const")
        for text in (FOX, CAR)
    ]
    assert not torch.allclose(*drawn, atol=1e-3)


def test_plain_models_store_what_they_did(tmp_path):
    stored = json.loads((tiny_folder(tmp_path / "m", "text") / "config.json").read_text())
    assert "attention_resolutions" not in stored["generator"]["stylegan_t"]
    assert set(stored["condition"]) == {"kind", "dim", "num_classes", "scale"}


def test_a_text_encoder_with_other_tokens_is_refused(tmp_path):
    folder = save_model(tmp_path / "m", *attending(), {})
    stored = json.loads((folder / "config.json").read_text())
    stored["condition"]["token_dim"] = 12
    (folder / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="does not fit the config"):
        load_model(folder)
    del stored["condition"]["token_dim"]
    (folder / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"attention_resolutions=\[8, 16\] needs the tokens of captions"):
        load_model(folder)


def test_an_encoder_that_shows_no_tokens_is_refused():
    encoder = tiny_clip()
    encoder.token_dim = 0
    with pytest.raises(ValueError, match="shows no tokens to attend to: name another one"):
        TextCondition(encoder, tokens=True)


def test_ways_begin_and_end_with_the_prompts_and_read_both_between():
    generator, condition = attending()
    pipe = Pipeline(generator, condition)
    way = arrays(pipe.interpolate([FOX, CAR], frames=3))
    ends = arrays(pipe([FOX, CAR]))
    assert near(way[0], ends[0])
    assert near(way[-1], ends[1])
    steps = [InterpolationFrame(SampleSpec(FOX, 0), SampleSpec(CAR, 0), share) for share in (0.0, 0.5)]
    text = token_context(generator, condition, steps)
    assert isinstance(text, TextBlend)
    assert text.share.tolist() == [[0.0, 0.0], [0.5, 0.5]]
    still = token_context(
        generator, condition, [InterpolationFrame(SampleSpec(FOX, 0), SampleSpec(FOX, 1), 0.5)]
    )
    assert isinstance(still, TextTokens)


def test_a_mix_reads_its_prompt_where_it_styles_the_last_layer():
    generator, condition = attending()
    assert generator.synthesis.last_layers() == [2, 5]
    specs = [
        SampleSpec(FOX, 0),
        *(SampleSpec(FOX, 0, mix=Mix(CAR, layers)) for layers in ((2,), (3, 4), (5, 6))),
    ]
    text = token_context(generator, condition, specs)
    assert text.share.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]
    pipe = Pipeline(generator, condition)
    mixed = arrays(pipe(FOX, mix=CAR, layers=range(generator.num_ws)))
    assert near(mixed[0], arrays(pipe(CAR))[0])


def test_metrics_measure_the_pictures_of_the_prompts():
    generator, condition = attending()
    generated = GeneratorImages(generator, condition, captions=[FOX, CAR, FOX])
    pictures = generated.images([0, 1, 2]).permute(0, 2, 3, 1).numpy().astype(int)
    sampled = [
        np.asarray(one.image).astype(int)
        for one in Pipeline(generator, condition).pairs([FOX, CAR, FOX], [0, 1, 2])
    ]
    assert all(map(near, pictures, sampled))

    def distance(one, other):
        return (one - other).square().mean((1, 2, 3))

    def fox(indices):
        return condition.encode([FOX] * len(indices))

    value = ppl(
        generator,
        distance,
        4,
        conditions=fox,
    )
    other = ppl(
        generator,
        distance,
        4,
        conditions=lambda i: fox(i)._replace(tokens=condition.encode([CAR] * len(i)).tokens),
    )
    assert value > 0
    assert value != pytest.approx(other, rel=1e-3)
