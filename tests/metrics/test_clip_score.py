"""The CLIP score is the mean cosine over pairs, with the papers' way of reading pictures."""

import open_clip
import pytest
import torch
from metrics_golden import CASES, inputs
from safetensors.torch import save_file
from tiny_clips import MEAN, OPEN_CLIP, STD, tiny_open_clip
from tiny_models import WORDS
from torch.nn import functional as F

from sgxl_t.metrics.distances.clip_score import (
    DEFAULT_CLIP,
    ClipScore,
    clip_of_file,
    clip_score,
    matched_cosines,
)
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.text.clip import local_clip
from sgxl_t.networks.text.open_clip_model import open_clip_text_config
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.vocab import WordTokenizer


class Drawn:
    """Pictures of the index alone, which count how often they are asked for."""

    size = (20, 20)

    def __init__(self):
        self.asked = 0

    def check_count(self, count):
        pass

    def images(self, indices):
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
    images = Drawn().images(range(4)).repeat_interleave(4, 2).repeat_interleave(4, 3)
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
    scorer, generated = ClipScore(clip), Drawn()
    values = [clip_score(generated, PROMPTS, scorer, count=70, batch_size=size) for size in (1, 7, 64)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-7)
    each = scorer.cosines(generated.images(range(70)), PROMPTS[:70])
    assert values[0] == pytest.approx(float(each.mean()), abs=1e-7)
    assert -1 < values[0] < 1


def test_too_few_prompts_are_named_before_any_picture(clip):
    generated = Drawn()
    with pytest.raises(ValueError, match=r"72 prompts and 100 pictures .*longer list"):
        clip_score(generated, PROMPTS, ClipScore(clip), count=100)
    assert generated.asked == 0
    with pytest.raises(ValueError, match="3 pictures came with 2 prompts"):
        ClipScore(clip).cosines(generated.images(range(3)), PROMPTS[:2])


def test_the_default_is_the_network_of_the_papers():
    name, _, tag = DEFAULT_CLIP.removeprefix("open_clip:").partition("/")
    text = open_clip_text_config(name, tag)
    assert (text.embed_dim, text.context_length, text.quick_gelu) == (1024, 77, False)


def test_a_reference_without_weights_is_named():
    with pytest.raises(ValueError, match="no weights 'nonsense' of ViT-g-14"):
        ClipScore("open_clip:ViT-g-14/nonsense")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The small model that open_clip knows, and its weights as safetensors and as a PyTorch file."""
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))
    model = tiny_open_clip(monkeypatch)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "clip.safetensors")
    torch.save(state, tmp_path / "clip.bin")
    return model, tmp_path


@pytest.mark.parametrize("name", ["clip.safetensors", "clip.bin"])
def test_one_file_holds_the_weights_of_an_open_clip(weights, name):
    model, folder = weights
    scorer = ClipScore(OPEN_CLIP, weights=folder / name)
    images, prompts = Drawn().images(range(4)), PROMPTS[:4]
    pixels = F.interpolate(images / 255, size=(32, 32), mode="bicubic")
    pixels = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        tokens = open_clip.get_tokenizer("tiny")(prompts)
        expected = matched_cosines(model.encode_image(pixels), model.encode_text(tokens))
    torch.testing.assert_close(scorer.cosines(images, prompts), expected, rtol=0, atol=1e-6)
    assert (scorer.reference, scorer.preprocessing) == (OPEN_CLIP, "bicubic-32")
    assert not scorer.clip.training
    extractors = ExtractorCache(weights={"clip": folder / name})
    torch.testing.assert_close(
        extractors.clip(OPEN_CLIP).cosines(images, prompts), expected, rtol=0, atol=1e-6
    )


def test_files_that_cannot_be_the_weights_are_one_sentence(weights, clip):
    _, folder = weights
    clip.save(folder / "local")
    (folder / "broken.bin").write_text("no weights")
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
    good, known = folder / "clip.safetensors", "only those of open_clip:MODEL/TAG come by file"
    cases = [
        ((f"local:{folder / 'local'}", good), known),
        ((OPEN_CLIP, folder / "none.bin"), "none.bin is no file: give the weights of open_clip:tiny/tag"),
        ((OPEN_CLIP, folder / "broken.bin"), "no plain PyTorch state dict"),
        ((OPEN_CLIP, folder / "other.safetensors"), "lacks the tensor"),
        ((OPEN_CLIP, good, "0" * 64), "has the SHA-256"),
        (("open_clip:tiny/nonsense", good), "no weights 'nonsense' of tiny"),
    ]
    for arguments, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            clip_of_file(*arguments)


def test_a_local_clip_takes_nothing_from_the_file_of_another(weights, clip):
    _, folder = weights
    clip.save(folder / "local")
    extractors = ExtractorCache(weights={"clip": folder / "clip.bin"})
    assert extractors.clip(f"local:{folder / 'local'}").clip.dim == 8
