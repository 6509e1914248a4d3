"""Training of local feature networks on tiny pictures."""

import json

import pytest
import torch
from click.testing import CliRunner

from sgxl_t.cli.features import features
from sgxl_t.datasets import ImageSource, Sample
from sgxl_t.networks.backbones.local_networks import SmallCNNConfig, SmallViTConfig, load_local
from sgxl_t.networks.frozen import load_clip
from sgxl_t.training.local_features.config import FeaturesConfig
from sgxl_t.training.local_features.data import read_images
from sgxl_t.training.local_features.train import one_cycle, train_features

WORDS = ("red", "green", "blue")


class Colours(ImageSource):
    """Noisy pictures of three colours, with labels, captions, both or neither."""

    def __init__(self, count=60, labels=True, captions=True, sizes=False, resolution=16):
        super().__init__(resolution=resolution, class_names=WORDS if labels else None, has_captions=captions)
        self.count, self.labels, self.captions, self.sizes = count, labels, captions, sizes

    def _count(self):
        return self.count

    def _read(self, index):
        rng = torch.Generator().manual_seed(index)
        image = torch.randint(0, 90, (3, self.resolution, self.resolution), generator=rng, dtype=torch.uint8)
        image[index % 3] += 120
        size = "large " * (self.sizes and index % 2)
        caption = f"a {size}{WORDS[index % 3]} wall" if self.captions else None
        return Sample(image, index % 3 if self.labels else None, caption)

    def fingerprint(self):
        return "colours"


def small(**changes):
    return FeaturesConfig(batch=24, text_width=16, text_layers=1, lr=1e-2, **changes)


def train(source, folder, steps=12, **options):
    return train_features(source, folder, progress=False, config=small(steps=steps), **options)


def test_labels_make_classifiers(tmp_path):
    report = train(Colours(captions=False), tmp_path)
    assert report["learnt_from"] == "labels"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cnn", "report.json", "vit"]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert report["cnn"]["accuracy"] == 1.0
    network, meta = load_local(tmp_path / "cnn")
    assert meta["classes"] == list(WORDS)
    image = Colours()[1].image[None] / 127.5 - 1
    assert network.forward_logits(image).argmax() == 1
    assert network.projection is None


def test_captions_make_a_clip_that_finds_them(tmp_path):
    report = train(Colours(labels=False), tmp_path, steps=20)
    assert report["learnt_from"] == "captions"
    clip = load_clip(f"local:{tmp_path / 'clip'}")
    pictures = torch.stack([Colours()[index].image for index in range(3)]) / 255
    texts = clip.encode_text([f"a {word} wall" for word in WORDS])
    assert (clip.encode_image(pictures) @ texts.T).argmax(1).tolist() == [0, 1, 2]
    cnn, _ = load_local(tmp_path / "cnn")
    torch.testing.assert_close(
        torch.nn.functional.normalize(cnn(pictures * 2 - 1), dim=1), clip.encode_image(pictures)
    )
    assert report["cnn"]["retrieval_captions"] == 3
    assert report["vit"]["retrieval_at_1"] >= 0.3
    assert load_local(tmp_path / "vit")[0].classifier is None


def test_captions_and_labels_together(tmp_path):
    report = train(Colours(), tmp_path, kinds=("cnn", "clip"), steps=20)
    assert report["learnt_from"] == "captions and labels"
    assert report["cnn"]["accuracy"] == 1.0
    assert "vit" not in report


def test_a_cnn_alone_reads_captions_that_say_more_than_labels(tmp_path):
    report = train(Colours(sizes=True), tmp_path / "varied", kinds=("cnn",), steps=20)
    assert report["learnt_from"] == "captions and labels"
    assert report["cnn"]["retrieval_captions"] > 3
    assert not (tmp_path / "varied" / "clip").exists()
    assert train(Colours(), tmp_path / "same", kinds=("cnn",), steps=2)["learnt_from"] == "labels"


def test_a_transformer_joins_later_on_the_stored_text_tower(tmp_path):
    train(Colours(), tmp_path, kinds=("clip",), steps=3)
    assert not (tmp_path / "cnn").exists()
    before = (tmp_path / "clip" / "model.safetensors").read_bytes()
    report = train(Colours(), tmp_path, kinds=("vit",), steps=3)
    assert "retrieval_at_1" in report["vit"]
    assert (tmp_path / "clip" / "model.safetensors").read_bytes() == before


def test_pictures_alone_learn_from_views(tmp_path):
    report = train(Colours(labels=False, captions=False), tmp_path, steps=4)
    assert report["learnt_from"] == "views"
    assert 0 <= report["cnn"]["view_match_at_1"] <= 1
    network, _ = load_local(tmp_path / "vit")
    assert network.classifier is None
    assert network.projection is not None


def test_the_result_is_a_function_of_the_seed(tmp_path):
    state = torch.random.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(Colours(), tmp_path / name, steps=2, seed=seed)
    assert torch.equal(state, torch.random.get_rng_state())
    for kind in ("cnn", "vit", "clip"):
        first, same, other = ((tmp_path / n / kind / "model.safetensors").read_bytes() for n in "abc")
        assert first == same
        assert first != other


def test_a_time_limit_ends_the_training(tmp_path):
    report = train_features(
        Colours(), tmp_path, kinds=("cnn",), seconds=0.05, progress=False, config=small(steps=10**6)
    )
    assert 1 <= report["cnn"]["steps"] < 10**6


def test_an_interruption_leaves_the_old_network(tmp_path, monkeypatch):
    train(Colours(captions=False), tmp_path, kinds=("cnn",), steps=2)
    before = (tmp_path / "cnn" / "model.safetensors").read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sgxl_t.training.local_features.train.save_local", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(Colours(captions=False), tmp_path, kinds=("cnn",), steps=2)
    assert (tmp_path / "cnn" / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cnn", "report.json"]


def test_sizes_follow_the_configuration(tmp_path):
    config = FeaturesConfig(
        steps=1,
        batch=24,
        max_side=8,
        cnn=SmallCNNConfig(image_size=8, channels=(4, 4, 4, 4), num_classes=3),
        vit=SmallViTConfig(image_size=8, width=8, heads=2, depth=2, num_classes=3),
    )
    train_features(Colours(captions=False), tmp_path, progress=False, config=config)
    assert load_local(tmp_path / "cnn")[0].channels == (4, 4, 4, 4)
    assert load_local(tmp_path / "vit")[0].depth == 2


def test_pictures_are_read_once_each_and_reduced():
    pictures = read_images(
        Colours(count=70), FeaturesConfig(max_side=8), seed=3, progress=False, device=torch.device("cpu")
    )
    assert pictures.images.shape == (70, 8, 8, 3)
    assert len({image.numpy().tobytes() for image in pictures.images}) == 70
    assert sorted(pictures.train.tolist() + pictures.held_out.tolist()) == list(range(70))
    assert len(pictures.held_out) == 7
    words = [WORDS[label] for label in pictures.labels.tolist()]
    assert pictures.captions == [f"a {word} wall" for word in words]


def test_changed_pictures_stay_near_the_plain_ones():
    pictures = read_images(Colours(), FeaturesConfig(), seed=0, progress=False, device=torch.device("cpu"))
    index = pictures.train[:16]
    plain = pictures.plain(index)
    for changed in (pictures.shifted, pictures.view):
        first = changed(index, torch.Generator().manual_seed(1))
        assert first.shape == plain.shape
        assert not torch.equal(first, plain)
        assert torch.equal(first, changed(index, torch.Generator().manual_seed(1)))


def test_the_learning_rate_rises_and_falls():
    rates = [one_cycle(share / 100) for share in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] < 0.1
    assert rates[100] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": ("resnet",)}, "name one or more of cnn, vit, clip"),
        ({"kinds": ()}, "name one or more"),
        ({"seconds": 0.0}, "above zero"),
        ({"config": FeaturesConfig(steps=0)}, "above zero"),
    ],
)
def test_wrong_requests_give_one_sentence(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train_features(Colours(), tmp_path, progress=False, **options)


def test_what_the_data_cannot_give(tmp_path):
    with pytest.raises(ValueError, match="no captions"):
        train(Colours(captions=False), tmp_path, kinds=("clip",))
    with pytest.raises(ValueError, match="too few"):
        train(Colours(count=3), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        train(Colours(), tmp_path / "file" / "out")


def test_commands_train_list_and_inspect(tmp_path):
    runner = CliRunner()
    out = str(tmp_path / "nets")
    line = ["train", "--data", "digits", "--out", out, "--resolution", "16", "--steps", "1", "--kinds", "cnn"]
    result = runner.invoke(features, [*line, "--json"])
    assert result.exit_code == 0, result.output
    listed = runner.invoke(features, ["list", out, "--json"])
    (entry,) = json.loads(listed.output)
    assert (entry["reference"], entry["kind"], entry["pixels"]) == (f"local:{out}/cnn", "cnn", 16)
    inspected = runner.invoke(features, ["inspect", f"{out}/cnn", "--json"])
    found = json.loads(inspected.output)
    assert found["classes"] == [str(digit) for digit in range(10)]
    assert found["parameters"] > 1000
    assert "captions" not in runner.invoke(features, ["inspect", f"{out}/cnn"]).output
    assert "learnt from" in runner.invoke(features, ["inspect", f"{out}/cnn"]).output
