"""One pass for many metrics: equal in any split, kept by content, resumed after a stop."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.datasets.open import open_source
from sgxl_t.files.content import short_hash
from sgxl_t.metrics import collect
from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.features import Extractor
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.features.resize import lanczos_uint8
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.processes import Processes
from sgxl_t.metrics.protocol import parse_metric, parse_metrics
from sgxl_t.metrics.real_cache import RealCache, RealImages
from sgxl_t.metrics.runner import evaluate
from sgxl_t.metrics.stored_images import StoredImages
from sgxl_t.model_io.model_hash import model_hash


class Toy(Extractor):
    """Eight fixed mixtures of the pixels."""

    def __init__(self):
        super().__init__("random:small_cnn", {"pooled": 8}, "none")
        mix = torch.randn(192, 8, generator=torch.Generator().manual_seed(0))
        self.register_buffer("mix", mix / 1000)

    def features(self, images):
        return {"pooled": images.flatten(1).float() @ self.mix}


class Noise:
    """Pictures by index; counts what it was asked for."""

    size = (8, 8)

    def __init__(self, fail_at=None):
        self.asked, self.fail_at = [], fail_at

    def check_count(self, count):
        """As many as anybody wants."""

    def images(self, indices):
        self.asked += indices
        if self.fail_at in indices:
            raise KeyboardInterrupt
        draws = [torch.Generator().manual_seed(index) for index in indices]
        return torch.stack([torch.randint(256, (3, 8, 8), generator=rng).to(torch.uint8) for rng in draws])

    def describe(self):
        return {"model": "noise", "psi": 1.0}


class Reals(ImageSource):
    """A hundred noise pictures; counts readings."""

    def __init__(self, content="a", count=100):
        super().__init__(resolution=8)
        self.content, self.count, self.read = content, count, 0

    def _count(self):
        return self.count

    def _read(self, index):
        self.read += 1
        return Sample(Noise().images([10_000 + index])[0])

    def fingerprint(self):
        return short_hash(self.content, self.count)


@pytest.fixture
def extractors():
    extractors = ExtractorCache()
    extractors._extractors["random:small_cnn"] = Toy().freeze()
    return extractors


SPECS = parse_metrics("fd_random_60,fd_random_40,kd_random_50,kd_full_random_60,pr_random_30_vs_20")


def measure(extractors, generated=None, reals=None, specs=SPECS, **settings):
    real = RealImages(reals or Reals(), "reals")
    return evaluate(generated or Noise(), specs, {None: real}, extractors, **settings)


def values(results):
    return {result.metric: result.value for result in results}


def test_one_pass_feeds_all_metrics_and_equals_the_plain_computation(extractors):
    generated = Noise()
    found = values(measure(extractors, generated, batch_size=7))
    assert sorted(generated.asked) == list(range(60))
    extractor, reals = Toy().freeze(), Reals()
    real = extractor(torch.stack([reals[index].image for index in range(100)]))["pooled"]
    for count in (60, 40):
        fake = extractor(Noise().images(list(range(count))))["pooled"]
        assert found[f"fd_random_{count}"] == pytest.approx(frechet_distance(real, fake), rel=1e-9)
    endings = {name.rpartition("_")[2] for name in found if name.startswith("pr_")}
    assert endings == {"precision", "recall", "density", "coverage"}


@pytest.mark.parametrize("batch_size", [1, 64])
def test_batch_sizes_do_not_change_the_numbers(extractors, batch_size):
    expected, found = (
        values(measure(extractors, batch_size=7)),
        values(measure(extractors, batch_size=batch_size)),
    )
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("count", "world"), [(10, 3), (2, 3), (7, 1)])
def test_shares_cover_everything_once(count, world):
    shares = [list(Processes(rank, world).share(count)) for rank in range(world)]
    assert [index for share in shares for index in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_real_side_is_made_once_for_equal_data(extractors, tmp_path, caplog):
    cache, first, again, other = RealCache(tmp_path), Reals(), Reals(), Reals("b")
    expected = values(measure(extractors, reals=first, cache=cache))
    assert values(measure(extractors, reals=again, cache=cache)) == pytest.approx(expected, rel=1e-12)
    assert (first.read, again.read) == (100, 0)
    measure(extractors, reals=other, cache=cache)
    assert other.read == 100
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    damaged = Reals()
    assert values(measure(extractors, reals=damaged, cache=cache)) == pytest.approx(expected, rel=1e-12)
    assert damaged.read == 100
    assert "is damaged" in caplog.text
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_interrupted_work_goes_on(extractors, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SAVE_EVERY", 15)
    with pytest.raises(KeyboardInterrupt):
        measure(extractors, Noise(fail_at=47), batch_size=5, folder=tmp_path)
    resumed = Noise()
    found = values(measure(extractors, resumed, batch_size=5, folder=tmp_path))
    assert resumed.asked == list(range(45, 60))
    assert found == pytest.approx(values(measure(extractors)), rel=1e-9, abs=1e-12)


def test_unfinished_work_of_another_request_is_started_over(extractors, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SAVE_EVERY", 15)
    with pytest.raises(KeyboardInterrupt):
        measure(extractors, Noise(fail_at=47), batch_size=5, folder=tmp_path)
    generated = Noise()
    measure(extractors, generated, specs=SPECS[:1], folder=tmp_path)
    assert generated.asked == list(range(60))


def test_features_that_are_not_finite_give_nan_and_say_how_many(extractors):
    extractors._extractors["random:small_cnn"].mix[0] = math.nan
    for result in measure(extractors):
        assert math.isnan(result.value)
        assert "pictures hold NaN" in result.note


def test_pictures_with_nan_give_nan():
    generator, condition = tiny_model("none")
    for parameter in generator.synthesis.parameters():
        parameter.data.fill_(math.nan)
    real = {None: RealImages(open_source("digits", resolution=16), "digits")}
    generated = GeneratorImages(generator, condition)
    (result,) = evaluate(generated, [parse_metric("fd_random_4_vs_4")], real, ExtractorCache())
    assert math.isnan(result.value)
    assert "4 of 4 generated pictures hold NaN" in result.note


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("eqt2_int", "looks into a generator and pictures are given"),
        ("cs2_local:x", "compares pictures with their captions"),
        ("fd_random_300", "holds 3 pictures and 300 are asked for"),
    ],
)
def test_requests_that_cannot_work_fail_before_any_picture(extractors, tmp_path, metric, sentence):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match=sentence):
        measure(extractors, StoredImages(tmp_path), specs=[parse_metric(metric)])


def test_eqt_needs_an_input_transform():
    generator, condition = tiny_model("none")
    with pytest.raises(ValueError, match="input transform"):
        evaluate(GeneratorImages(generator, condition), [parse_metric("eqt2_int")], {}, ExtractorCache())


def test_eqt_of_an_alias_free_generator():
    generator, condition = tiny_model("class", "sgxl-tiny-16")
    (result,) = evaluate(
        GeneratorImages(generator, condition), [parse_metric("eqt4_int")], {}, ExtractorCache()
    )
    assert result.value > 5
    assert (result.metric, result.n_real) == ("eqt4_int", 0)


def test_a_broken_generator_has_no_equivariance():
    generator, condition = tiny_model("class", "sgxl-tiny-16")
    for parameter in generator.synthesis.parameters():
        parameter.data.fill_(math.nan)
    (result,) = evaluate(
        GeneratorImages(generator, condition), [parse_metric("eqt4_int")], {}, ExtractorCache()
    )
    assert math.isnan(result.value)
    assert "gave no finite number" in result.note


def test_metrics_of_a_smaller_size_reduce_the_pictures_first(extractors):
    spec = replace(parse_metric("fd_random_40"), resolution=8)
    generated = Noise()
    generated.size, small = (16, 16), generated.images
    large = [small([index, index + 1000, index + 2000, index + 3000]) for index in range(40)]
    generated.images = lambda indices: torch.stack(
        [torch.cat([torch.cat([*large[i][:2]], 2), torch.cat([*large[i][2:]], 2)], 1) for i in indices]
    )
    (result,) = evaluate(generated, [spec], {8: RealImages(Reals(), "reals")}, extractors)
    extractor, reals = Toy().freeze(), Reals()
    real = extractor(torch.stack([reals[index].image for index in range(100)]))["pooled"]
    fake = extractor(lanczos_uint8(generated.images(range(40)), 8))["pooled"]
    assert result.value == pytest.approx(frechet_distance(real, fake), rel=1e-9)
    generated.size = (4, 4)
    with pytest.raises(ValueError, match="4 px are smaller than the 8 px"):
        evaluate(generated, [spec], {8: RealImages(Reals(), "reals")}, extractors)


def test_a_picture_is_a_function_of_its_index():
    generator, condition = tiny_model("class")
    generated = GeneratorImages(generator, condition, seed=5)
    together, alone = generated.images([3, 8]), generated.images([8])
    assert (together[1].int() - alone[0].int()).abs().max() <= 1
    assert torch.equal(GeneratorImages(generator, condition, seed=8).images([0, 5])[1], together[1])


def test_classes_follow_their_rule():
    generator, condition = tiny_model("class")
    balanced = GeneratorImages(generator, condition, class_sampling="balanced")
    assert balanced.conditions(range(6)) == [0, 1, 2, 3, 0, 1]
    uniform = GeneratorImages(generator, condition).conditions(range(400))
    assert all(60 < uniform.count(label) < 140 for label in range(4))
    source = open_source("digits", resolution=16)
    with pytest.raises(ValueError, match="4 classes and the data 10"):
        GeneratorImages(generator, condition, class_sampling="dataset", source=source)
    with pytest.raises(ValueError, match="name it with --data"):
        GeneratorImages(generator, condition, class_sampling="dataset")


def test_captions_come_from_the_data_or_from_a_list():
    generator, condition = tiny_model("text")
    source = open_source("digits", resolution=16)
    drawn = GeneratorImages(generator, condition, source=source)
    captions = {source[index].caption for index in range(len(source))}
    assert len(captions) == 10
    assert set(drawn.conditions(range(200))) == captions
    assert drawn.conditions([4]) == drawn.conditions(range(5))[4:]
    listed = GeneratorImages(generator, condition, captions=["a fox", "a dog"])
    assert listed.conditions([1]) == ["a dog"]
    with pytest.raises(ValueError, match="2 lines and 3 pictures"):
        listed.check_count(3)


def test_models_are_known_by_their_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generator.safetensors").write_text("a")
    first = model_hash(tmp_path)
    (tmp_path / "README.md").write_text("notes change no picture")
    assert model_hash(tmp_path) == first
    (tmp_path / "generator.safetensors").write_text("b")
    assert model_hash(tmp_path) != first


def test_subsets_of_reals_are_the_same_ones_again(extractors):
    spec = replace(parse_metric("fd_random_40_vs_30"))
    (first,), (again,) = (measure(extractors, specs=[spec]) for _ in range(2))
    assert first.value == again.value
    assert first.n_real == 30
    with pytest.raises(ValueError, match="at least 2"):
        measure(extractors, reals=Reals(count=1), specs=[spec])
