"""What `sgxl-t evaluate` makes of pictures of any size and of data that change between two calls."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_main import call

from sgxl_t.datasets.open import open_source, open_to_measure
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.stored_images import StoredImages

METRICS = "fd_random_8_vs_8"


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))


def pictures(folder, *sizes, count=8, ending="png", seed=0):
    """Noise pictures, their sizes (width, height) in turn."""
    random, folder = np.random.RandomState(seed), Path(folder)
    folder.mkdir()
    for number in range(count):
        width, height = sizes[number % len(sizes)]
        noise = random.randint(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.{ending}")


def measured(capsys, *arguments):
    """Records of a call that goes well."""
    code, _, err = call(capsys, "evaluate", *arguments, "--metrics", METRICS, "--json", "r.jsonl")
    assert code == 0, err
    found = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    Path("r.jsonl").unlink()
    return found


@pytest.mark.parametrize("size", [(96, 96), (48, 32), (20, 50)])
def test_pictures_of_any_size_are_measured_as_they_are(capsys, size):
    pictures("a", size, seed=1)
    pictures("b", size, seed=2)
    (record,) = measured(capsys, "a", "--data", "b")
    assert record["value"] > 0
    assert record["resolution"] == (size[0] if size[0] == size[1] else list(size))
    (same,) = measured(capsys, "a", "--data", "a")
    assert same["value"] == pytest.approx(0, abs=1e-6)
    source = open_to_measure("a", size[::-1])
    stored = np.asarray(Image.open("a/3.png")).transpose(2, 0, 1)
    assert torch.equal(source[3].image, torch.from_numpy(stored.copy()))


def test_real_pictures_of_other_sizes_come_to_that_of_the_generated_ones_and_are_counted(capsys):
    pictures("a", (48, 32))
    pictures("b", (96, 96), (48, 32), (50, 70))
    (record,) = measured(capsys, "a", "--data", "b")
    assert record["n_real"] == 8
    _, out, _ = call(capsys, "evaluate", "a", "--data", "b", "--metrics", METRICS)
    assert "note: 5 x brought to 48 x 32 px from another size" in out
    whole = Image.open("b/0.png").crop((0, 16, 96, 80)).resize((48, 32), Image.Resampling.LANCZOS)
    image = open_to_measure("b", (32, 48))[0].image
    assert torch.equal(image, torch.from_numpy(np.asarray(whole).transpose(2, 0, 1).copy()))


@pytest.mark.parametrize("data", ["digits", "emoji-scenes:24x8"])
def test_drawn_data_comes_at_any_size(capsys, data):
    pictures("a", (48, 20))
    (record,) = measured(capsys, "a", "--data", data)
    assert record["resolution"] == [48, 20]
    assert open_to_measure(data, (20, 48))[0].image.shape == (3, 20, 48)


def test_sizes_are_part_of_what_is_kept_and_compared(capsys):
    pictures("square", (32, 32))
    pictures("wide", (48, 32))
    pictures("b", (64, 64))
    prints = [measured(capsys, name, "--data", "b")[0]["data_fingerprint"] for name in ("square", "wide")]
    assert prints[0] == open_source("b", resolution=32).fingerprint() != prints[1]
    code, _, err = call(capsys, "evaluate", "square", "wide", "--data", "b", "--metrics", METRICS)
    assert code == 2
    assert "cannot be compared" in err


@pytest.mark.parametrize(
    ("metric", "size", "sentence"),
    [
        ("fd_random_8", None, "a metric needs one size, which `sgxl-t prepare"),
        ("fd_inception_hash_8", None, "different sizes"),
        ("fid30k_coco64", (96, 80), "looks at squares of 64 px and the pictures have 96 x 80 px"),
        ("fid30k_coco64", (48, 48), "smaller than the 64 px"),
    ],
)
def test_metrics_that_need_a_size_say_so(capsys, monkeypatch, metric, size, sentence):
    pictures("a", *([size] if size else [(32, 32), (96, 96)]))
    monkeypatch.setattr(StoredImages, "check_count", lambda *_: None)
    monkeypatch.setattr(ExtractorCache, "named_by_weights", lambda _, spec: spec)
    code, _, err = call(capsys, "evaluate", "a", "--data", "digits", "--metrics", metric)
    assert code == 2
    assert sentence in err


def test_a_network_that_cannot_look_at_a_size_is_named(capsys, monkeypatch):
    def refuses(_, images):
        raise RuntimeError(f"sizes of tensors must match: {images.shape[-1]}\nand more")

    pictures("a", (48, 32))
    monkeypatch.setattr("sgxl_t.metrics.features.networks.NetworkExtractor.features", refuses)
    code, _, err = call(capsys, "evaluate", "a", "--data", "digits", "--metrics", METRICS)
    assert code == 2
    assert "random:small_cnn cannot look at pictures of 48 x 32 px (sizes of tensors must match: 48)" in err


def test_training_keeps_to_its_sizes(capsys):
    with pytest.raises(ValueError, match="resolution=96 is not a power of two"):
        open_source("digits", resolution=96)


def test_pictures_that_are_none_are_refused_in_a_sentence(capsys):
    pictures("a", (32, 32))
    os.mkfifo("a/x.png")
    code, _, err = call(capsys, "evaluate", "a", "--data", "digits", "--metrics", METRICS)
    assert code == 2
    assert "a/x.png is no usable picture" in err
    assert "no regular file" in err


def test_another_data_set_of_equal_names_and_sizes_has_numbers_of_its_own(capsys):
    pictures("model", (32, 32))
    pictures("a", (32, 32), ending="bmp", seed=1)
    pictures("b", (32, 32), ending="bmp", seed=2)
    found = {}
    for data, cache in (("a", "kept"), ("b", "kept"), ("b", "fresh")):
        (record,) = measured(capsys, "model", "--data", data, "--cache", cache)
        found[data, cache] = record["value"], record["data_fingerprint"]
    assert found["b", "kept"] == found["b", "fresh"] != found["a", "kept"]
    assert found["b", "kept"][1] != found["a", "kept"][1]


def test_a_picture_that_was_replaced_is_measured_anew(capsys):
    pictures("model", (32, 32))
    pictures("a", (32, 32), ending="bmp", seed=1)
    (before,) = measured(capsys, "model", "--data", "a", "--cache", "kept")
    times = os.stat("a/3.bmp")
    Image.new("RGB", (32, 32)).save("a/3.bmp")
    os.utime("a/3.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    (after,) = measured(capsys, "model", "--data", "a", "--cache", "kept")
    (fresh,) = measured(capsys, "model", "--data", "a", "--cache", "fresh")
    assert before["value"] != after["value"] == fresh["value"]


def test_what_was_not_used_of_the_data_is_said(capsys):
    pictures("a", (32, 32))
    pictures("b", (32, 32), count=20)
    Path("b/broken.png").write_bytes(b"no picture")
    Path("a/notes.md").touch()
    for system in ("a/.DS_Store", "a/._0.png", "a/__MACOSX/0.png"):
        Path(system).parent.mkdir(exist_ok=True)
        Path(system).touch()
    for extra in ((), ("--json", "-")):
        code, out, err = call(capsys, "evaluate", "a", "--data", "b", "--metrics", METRICS, *extra)
        assert code == 0
        assert "b: rejected: 1 x no readable picture (broken.png)" in (err if extra else out)
        assert "a: not used: 1 x file that is no picture (notes.md)" in (err if extra else out)
        assert [json.loads(line)["metric"] for line in out.splitlines()] == [METRICS] if extra else True


@pytest.mark.parametrize(
    ("target", "option", "sentence"),
    [
        ("a", ("--json", "r.jsonl"), "the same evaluation is being made by process"),
        ("b", ("--csv", "r.csv"), "r.csv is being written by process"),
    ],
)
def test_a_second_evaluation_that_would_disturb_the_first_is_refused(
    capsys, monkeypatch, target, option, sentence
):
    pictures("a", (32, 32))
    pictures("b", (32, 32))
    second = []

    def disturbed(whole=StoredImages.images):
        def images(self, indices):
            if not second:
                second.append(None)
                second[0] = call(
                    capsys, "evaluate", target, "--data", "digits", "--metrics", METRICS, *option
                )
            return whole(self, indices)

        return images

    monkeypatch.setattr(StoredImages, "images", disturbed())
    code, _, err = call(capsys, "evaluate", "a", "--data", "digits", "--metrics", METRICS, *option)
    assert code == 0, err
    assert second[0][0] == 2
    assert sentence in second[0][2]
    assert sorted(path.name for path in Path().iterdir()) == ["a", "b", "cache", option[1]]


def test_names_of_folders_may_hold_anything(capsys):
    name = "a\udcff\x1b[31m"
    pictures(name, (32, 32))
    pictures("b", (32, 32))
    first, again = (measured(capsys, name, "--data", data)[0] for data in ("b", name))
    assert (first["model"], again["data"]) == ("a\\udcff\\x1b[31m",) * 2
