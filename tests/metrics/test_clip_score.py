"""The CLIP score is the mean cosine over pairs, with the papers' way of reading pictures."""

import pytest
import torch
from metrics_golden import CASES, inputs
from tiny_models import WORDS
from torch.nn import functional as F

from sgxl_t.metrics.clip_score import DEFAULT_CLIP, ClipScore, clip_score, matched_cosines
from sgxl_t.networks.clip import TextTowerConfig, local_clip, open_clip_text_config
from sgxl_t.networks.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.vocabulary import WordTokenizer


class Drawn:
    """Pictures of the index alone, which count how often they are asked for."""

    resolution = 20

    def __init__(self):
        self.asked = 0

    def check_count(self, count):
        pass

    def pictures(self, indices):
        self.asked += len(indices)
        rng = [torch.Generator().manual_seed(index) for index in indices]
        return torch.stack([torch.randint(256, (3, 20, 20), generator=one, dtype=torch.uint8) for one in rng])

    def describe(self):
        return {"model": "noise"}


@pytest.fixture(scope="module")
def clip():
    tokenizer = WordTokenizer(WORDS, 12)
    text = TextTowerConfig(
        embed_dim=8, context_length=12, vocab_size=tokenizer.vocab_size, width=16, heads=2, layers=1
    )
    torch.manual_seed(0)
    image = SmallCNN(SmallCNNConfig(image_size=32, channels=(4, 6, 8, 10), projection=8))
    return local_clip(text, tokenizer, image).eval().requires_grad_(False)


PROMPTS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("fox", "dog", "car")] * 12


@pytest.mark.golden
def test_golden_clip_score():
    images, texts = map(torch.from_numpy, inputs("clip_score"))
    case = CASES["clip_score"]
    ours = float(matched_cosines(images, texts).mean())
    assert ours == pytest.approx(case["expected"], rel=case["tolerance"]["rel"])


def test_negative_cosines_count():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert matched_cosines(x, -2 * x).tolist() == pytest.approx([-1] * 5)


def test_pictures_are_read_as_the_papers_do(clip):
    images = Drawn().pictures(range(4)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    plain, smooth = (
        (F.interpolate(images / 255, size=(32, 32), mode="bicubic", antialias=antialias) - clip.mean)
        / clip.std
        for antialias in (False, True)
    )
    for antialias, x in ((False, plain), (True, smooth)):
        scorer = ClipScore(clip, antialias=antialias)
        expected = matched_cosines(clip.model.encode_image(x), clip.encode_text(PROMPTS[:4]))
        torch.testing.assert_close(scorer.cosines(images, PROMPTS[:4]), expected, rtol=0, atol=1e-6)
    assert (ClipScore(clip).preprocessing, scorer.preprocessing) == ("bicubic-32", "bicubic-antialias-32")


def test_the_score_does_not_depend_on_the_batch_size(clip):
    scorer, fakes = ClipScore(clip), Drawn()
    values = [clip_score(fakes, PROMPTS, scorer, count=70, batch_size=size) for size in (1, 7, 64)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-7)
    each = scorer.cosines(fakes.pictures(range(70)), PROMPTS[:70])
    assert values[0] == pytest.approx(float(each.mean()), abs=1e-7)
    assert -1 < values[0] < 1


def test_too_few_prompts_are_named_before_any_picture(clip):
    fakes = Drawn()
    with pytest.raises(ValueError, match=r"72 prompts and 100 pictures .*longer list"):
        clip_score(fakes, PROMPTS, ClipScore(clip), count=100)
    assert fakes.asked == 0
    with pytest.raises(ValueError, match="3 pictures came with 2 prompts"):
        ClipScore(clip).cosines(fakes.pictures(range(3)), PROMPTS[:2])


def test_the_default_is_the_network_of_the_papers():
    name, _, tag = DEFAULT_CLIP.removeprefix("open_clip:").partition("/")
    text = open_clip_text_config(name, tag)
    assert (text.embed_dim, text.context_length, text.quick_gelu) == (1024, 77, False)


def test_a_reference_without_weights_is_named():
    with pytest.raises(ValueError, match="no weights 'nonsense' of ViT-g-14"):
        ClipScore("open_clip:ViT-g-14/nonsense")
