"""Zero-shot COCO: the real side is resized once for 256 px and twice for 64 px, and prompts are frozen."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sgxl_t.datasets import open_source
from sgxl_t.datasets.prepare import write_dataset
from sgxl_t.metrics.coco import (
    COCO_METRICS,
    CocoImages,
    draw_prompts,
    frozen_prompts,
    open_coco,
    read_prompts,
    write_prompts,
)
from sgxl_t.metrics.protocol import other_weights, parse_metric


class Noise:
    """Generated pictures of one side."""

    def __init__(self, resolution):
        self.size = (resolution, resolution)

    def check_count(self, count):
        pass

    def images(self, indices):
        rng = torch.Generator().manual_seed(0)
        images = torch.randint(256, (99, 3, *self.size), generator=rng)
        return images.to(torch.uint8)[list(indices)]

    def describe(self):
        return {"psi": 1.0}


@pytest.fixture
def captions(tmp_path):
    """Forty pictures with three captions each; one has none, one caption belongs to no picture."""
    path = tmp_path / "captions_val2014.json"
    notes = [
        {"id": 1000 - 3 * image - k, "image_id": image, "caption": f" picture {image}\n caption {k} "}
        for image in range(40)
        for k in range(3)
        if image != 7
    ]
    notes += [{"id": 1, "image_id": 999, "caption": "elsewhere"}, {"id": 2, "image_id": 3, "caption": " "}]
    images = [{"id": image, "file_name": f"{image}.jpg"} for image in range(40)]
    path.write_text(json.dumps({"images": images, "annotations": notes}))
    return path


@pytest.fixture
def val2014(tmp_path):
    folder = tmp_path / "val2014"
    folder.mkdir()
    for index in range(3):
        pixels = np.random.RandomState(index).randint(0, 256, (300, 340 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def by_hand(path, *sides):
    picture = Image.open(path)
    left, side = (picture.width - 300) // 2, 300
    picture = picture.crop((left, 0, left + side, side))
    for side in sides:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize(("resolution", "sides"), [(256, [256]), (64, [256, 64])])
def test_the_real_side_is_cropped_and_resized_as_published(val2014, tmp_path, resolution, sides):
    archive = tmp_path / "coco.zip"
    write_dataset(open_source(val2014, resolution=256), archive, progress=False)
    for reference in (val2014, archive):
        real = open_coco(reference, resolution)
        assert len(real) == 3
        for index, sample in enumerate(real.samples()):
            assert torch.equal(sample.image, by_hand(val2014 / f"{index}.png", *sides))
    assert real.describe() == {"real_count": 3, "crop": "centre square", "resize": f"lanczos {sides}"}


def test_the_two_real_sides_have_their_own_fingerprints(val2014):
    large, small = (open_coco(val2014, side) for side in COCO_METRICS.values())
    assert large.fingerprint() != small.fingerprint() != open_source(val2014, resolution=64).fingerprint()


def test_a_real_side_of_another_size_is_refused(val2014, tmp_path):
    archive = tmp_path / "coco64.zip"
    write_dataset(open_source(val2014, resolution=64), archive, progress=False)
    with pytest.raises(ValueError, match="64 x 64 px: prepare COCO again with --resolution 256"):
        open_coco(archive, 64)
    with pytest.raises(ValueError, match=r"128 px .*no known protocol"):
        open_coco(val2014, 128)


def test_fakes_are_resized_down_kept_or_refused():
    larger = Noise(128)
    expected = Image.fromarray(larger.images([5])[0].permute(1, 2, 0).numpy())
    expected = np.array(expected.resize((64, 64), Image.Resampling.LANCZOS))
    generated = CocoImages(larger, 64)
    assert np.array_equal(generated.images([5])[0].permute(1, 2, 0).numpy(), expected)
    assert generated.describe() == {"psi": 1.0, "fake_resize": "lanczos 128 to 64"}
    same = CocoImages(Noise(64), 64)
    assert torch.equal(same.images([1, 2]), Noise(64).images([1, 2]))
    assert same.describe()["fake_resize"] == "none"
    with pytest.raises(ValueError, match=r"64 px are smaller than the 256 px .*force"):
        CocoImages(Noise(64), 256)
    assert CocoImages(Noise(64), 256, upscale=True).images([0]).shape == (1, 3, 256, 256)


def test_prompts_are_a_function_of_the_seed_and_a_longer_list_begins_like_a_shorter_one(captions):
    few, many = draw_prompts(captions, count=20), draw_prompts(captions, count=400)
    assert few.prompts == many.prompts[:20]
    assert few.hash == many.first(20).hash != draw_prompts(captions, count=20, seed=1).hash
    assert {one.image_id for one in many.prompts} == set(range(40)) - {7}
    captions_of = {(one.image_id, one.caption_id) for one in many.prompts}
    assert len(captions_of) == 39  # one caption for each picture, however often it comes
    assert len({caption % 3 for _, caption in captions_of}) == 3
    assert many.texts[0].startswith(f"picture {many.prompts[0].image_id} caption ")
    with pytest.raises(ValueError, match="20 prompts and 21 pictures"):
        few.first(21)


def test_a_written_list_is_read_back_whole(captions, tmp_path):
    written = write_prompts(captions, tmp_path / "prompts.jsonl", count=30)
    assert read_prompts(tmp_path / "prompts.jsonl", captions=captions) == written
    assert sorted(path.name for path in tmp_path.iterdir()) == [captions.name, "prompts.jsonl"]


def test_a_list_is_drawn_once_and_read_ever_after(captions, tmp_path):
    file = tmp_path / "prompts.jsonl"
    drawn = frozen_prompts(captions, None, count=30)
    assert drawn == draw_prompts(captions, count=30)
    assert frozen_prompts(captions, file, count=30, write=False) == drawn
    assert not file.exists()
    assert frozen_prompts(captions, file, count=30) == drawn
    before = file.read_bytes()
    assert frozen_prompts(captions, file, count=9, seed=0) == drawn, "what is frozen stays"
    assert file.read_bytes() == before
    with pytest.raises(ValueError, match=r"was drawn with the seed 0 and 1 is asked for: .*another file"):
        frozen_prompts(captions, file, seed=1)


def test_a_list_of_another_coco_file_is_refused(captions, tmp_path):
    write_prompts(captions, tmp_path / "prompts.jsonl", count=30)
    other = tmp_path / "captions_val2017.json"
    other.write_text(captions.read_text().replace("picture 3", "photo 3"))
    with pytest.raises(ValueError, match=r"another captions file \(captions_val2014.json, .* than .*val2017"):
        read_prompts(tmp_path / "prompts.jsonl", captions=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("caption 1", "caption 9"), "was changed"),
        (lambda text: text.rsplit("\n", 2)[0], "was changed"),
        (lambda text: text[: len(text) // 2], "no list of prompts"),
        (lambda text: "[]", "no list of prompts"),
    ],
)
def test_a_list_that_was_edited_or_cut_is_refused(captions, tmp_path, change, message):
    path = tmp_path / "prompts.jsonl"
    write_prompts(captions, path, count=30)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_prompts(path)


@pytest.mark.parametrize("content", ["[]", "{", '{"images": [], "annotations": []}', '{"images": 3}'])
def test_files_without_captions_are_named(tmp_path, content):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"captions_val2014\.json"):
        draw_prompts(path)
    with pytest.raises(ValueError, match="missing"):
        draw_prompts(tmp_path / "nowhere.json")


def test_other_weights_keep_the_evaluation_resolution_in_the_name():
    specs = [other_weights(parse_metric(f"fid_coco{side}")) for side in COCO_METRICS.values()]
    assert [spec.name for spec in specs] == ["fd_inception_30k_coco64", "fd_inception_30k_coco256"]
    assert all(spec.is_coco for spec in specs)


def test_names_tell_extractor_and_count():
    assert [parse_metric(f"fid_coco{side}").name for side in COCO_METRICS.values()] == list(COCO_METRICS)
    assert parse_metric("fid500_coco64").name == "fid500_coco64"
    assert other_weights(parse_metric("fid10k_coco256")).name == "fd_inception_10k_coco256"
