import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_condition, tiny_model

from sgxl_t.conditioning import TextCondition
from sgxl_t.metrics.distances.clip_score import ClipScore
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.sampling.best import best_images, open_scorer
from sgxl_t.sampling.image import GeneratedImage
from sgxl_t.sampling.pipeline import Pipeline


class Brightness:
    """Scores a picture by its mean value and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def cosines(self, images, prompts):
        assert len(images) == len(prompts) <= 32
        self.asked += prompts
        return images.double().mean((1, 2, 3)) / 255


def grey(value, prompt="a fox", seed=0):
    return GeneratedImage(Image.new("RGB", (4, 4), (value, value, value)), prompt, seed)


def test_of_every_group_the_highest_score_wins_and_the_first_of_equals():
    values = [10, 30, 20, 7, 7, 5, 80, 90, 99]
    scorer = Brightness()
    pictures = [grey(value, seed=seed) for seed, value in enumerate(values)]
    best = list(best_images(iter(pictures), 3, scorer))
    assert [picture.seed for picture in best] == [1, 3, 8]
    assert best[0].score == pytest.approx(30 / 255)
    assert len(scorer.asked) == 9


def test_groups_pass_clip_in_parts():
    pictures = [grey(seed, seed=seed) for seed in range(100)]
    (best,) = best_images(iter(pictures), 100, Brightness())
    assert best.seed == 99


def test_the_models_own_clip_ranks_where_it_has_its_image_tower():
    clip = tiny_whole_clip()
    condition = TextCondition(clip)
    pipe = Pipeline(build_generator("sgt-tiny-16", condition.spec, seed=1), condition)
    made = pipe("a red fox", seeds=[0, 2], best_of=3)
    every = pipe("a red fox", seeds=range(9))
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in every.images])).permute(0, 3, 1, 2)
    scores = ClipScore(clip).cosines(pixels, ["a red fox"] * 9)
    best = [int(scores[:3].argmax()), 6 + int(scores[6:].argmax())]
    assert made.seeds == best
    assert made.scores == pytest.approx(scores[best].tolist(), abs=2e-3)
    assert pipe("a red fox").scores == [None]


def test_without_an_image_tower_or_prompts_there_is_nothing_to_rank_by():
    with pytest.raises(ValueError, match=r"without the image tower of its CLIP.* name a CLIP with --clip"):
        open_scorer(tiny_condition("text"), None, torch.device("cpu"))
    with pytest.raises(ValueError, match="this is a none model: leave best-of out"):
        open_scorer(tiny_condition("none"), None, torch.device("cpu"))
    given = tiny_whole_clip()
    assert open_scorer(tiny_condition("text"), given, torch.device("cpu")).clip is given


def test_a_mix_shows_no_one_prompt_to_rank_by():
    pipe = Pipeline(*tiny_model("text"))
    with pytest.raises(ValueError, match="with one prompt each: leave the mix, or the latents, out"):
        pipe("a red fox", mix="a dog", layers=[1], best_of=2, clip=tiny_whole_clip())


def test_candidates_beyond_the_last_seed_are_refused():
    pipe = Pipeline(*tiny_model("text"))
    with pytest.raises(ValueError, match="whole number from 0 to 2"):
        pipe("a red fox", seed=2**62, best_of=3, clip=tiny_whole_clip())
