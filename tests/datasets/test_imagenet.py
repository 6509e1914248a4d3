"""ImageNet's folders and its tar of tars, one archive for all stages, and enlarging by a network."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from test_prepare import command

from sgxl_t.datasets import open_source
from sgxl_t.datasets.enlarge import ModelEnlarger
from sgxl_t.datasets.images.imagenet import is_tar_of_tars
from sgxl_t.datasets.images.wordnet_names import spoken_names
from sgxl_t.datasets.prepare import write_dataset

CLASSES = {"n02099601": "golden retriever", "n01440764": "tench, Tinca tinca", "n01443537": "goldfish"}


def photo(seed, size=(40, 30)):
    """Noise over a slope: something at every frequency."""
    rng = np.random.RandomState(seed)
    slope = np.linspace(0, 120, size[0])[None, :, None]
    return Image.fromarray((slope + rng.randint(0, 120, (size[1], size[0], 3))).astype(np.uint8))


def jpeg(seed, size=(40, 30)):
    buffer = io.BytesIO()
    photo(seed, size).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def pictures(count=4):
    """Bytes by class and file name, as ImageNet names them."""
    return {
        synset: {f"{synset}_{number}.JPEG": jpeg(10 * place + number) for number in range(count)}
        for place, synset in enumerate(CLASSES)
    }


def tarred(files):
    """A tar of (name or TarInfo, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "ILSVRC2012_img_train.tar"
    path.write_bytes(tarred((f"{synset}.tar", tarred(files.items())) for synset, files in pictures().items()))
    return path


def unpacked(place):
    for synset, files in pictures().items():
        (place / synset).mkdir(parents=True)
        for name, data in files.items():
            (place / synset / name).write_bytes(data)


def contents(source):
    return [(sample.image.numpy().tobytes(), sample.label) for sample in source.samples()]


def test_numbers_of_classes_become_words_in_the_official_order(tmp_path):
    from timm.data import ImageNetInfo

    table = ImageNetInfo("imagenet-1k")
    names = spoken_names(sorted(table.label_names()))
    assert (len(names), names[0], names[207], names[999].split(",")[0]) == (
        1000,
        "tench, Tinca tinca",
        "golden retriever",
        "toilet tissue",
    )
    assert spoken_names(["n99999999", "n01440764"]) == ("n99999999", "n01440764")
    assert spoken_names(["cat", "n01440764"]) == ("cat", "n01440764")
    assert spoken_names([]) == ()


@pytest.mark.parametrize("inside", ["", "train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train"])
def test_folder_and_tar_of_tars_are_the_same_set(tar, tmp_path, inside):
    root = tmp_path / "imagenet"
    unpacked(root / inside)
    source, packed = open_source(root, resolution=16), open_source(tar, resolution=16)
    assert source.class_names == packed.class_names
    assert [name.split(",")[0] for name in packed.class_names] == ["tench", "goldfish", "golden retriever"]
    assert contents(source) == contents(packed)
    assert [label for _, label in contents(packed)] == [0] * 4 + [1] * 4 + [2] * 4


def test_the_command_writes_names_into_the_archive(tar, tmp_path, capsys):
    code, out, _ = command(capsys, tar, tmp_path / "d.zip", "--resolution", 16)
    assert code == 0
    assert "12 pictures of 16 x 16, 3 classes" in out
    table = json.loads(zipfile.ZipFile(tmp_path / "d.zip").read("dataset.json"))
    assert table["class_names"][2] == "golden retriever"
    assert table["prepared"] == {
        "resolution": 16,
        "resize": "centre square, Lanczos (Pillow)",
        "enlarged": 0,
        "enlarged_by": None,
    }
    assert contents(open_source(tmp_path / "d.zip", resolution=16)) == contents(
        open_source(tar, resolution=16)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [tar.name, "d.zip"]


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def test_what_does_not_belong_is_rejected_and_listed(tmp_path):
    path = tmp_path / "t.tar"
    bad = [
        ("../../outside.JPEG", jpeg(1)),
        ("/etc/absolute.JPEG", jpeg(1)),
        (link("link.JPEG", "/etc/passwd"), b""),
        ("notes.txt", b"text"),
        ("broken.JPEG", b"no picture"),
    ]
    good = [("good.JPEG", jpeg(3))]
    whole = tarred([("a.JPEG", jpeg(4)), ("b.JPEG", jpeg(5))])
    broken_off = whole[: 1024 + -(-len(jpeg(4)) // 512) * 512 + len(jpeg(5)) // 2]
    members = [("cat.tar", tarred(bad + good)), ("dog.tar", broken_off), ("../up.tar", tarred(good))]
    path.write_bytes(tarred(members))
    before = sorted(tmp_path.iterdir())
    source = open_source(path, resolution=16, reject_limit=1.0)
    assert [entry.name for entry in source.entries] == ["cat/good.JPEG", "dog/a.JPEG"]
    assert source.rejects.by_reason() == {
        "path leaves the archive": 2,
        "no plain file": 1,
        "no picture": 1,
        "no archive of one class": 1,
        "cannot be read": 1,
        "archive cannot be read to its end": 1,
        "no readable picture": 1,
    }
    assert {name for name, _, _ in source.rejects.items} >= {
        "../up.tar",
        "cat/link.JPEG",
        "cat/../../outside.JPEG",
    }
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(ValueError, match="above the limit"):
        open_source(path, resolution=16)


def test_sizes_are_bounded_without_reading(tmp_path, monkeypatch):
    path = tmp_path / "t.tar"
    path.write_bytes(tarred([("a.tar", tarred([("x.png", jpeg(1)), ("y.png", b"\0" * 30_000)]))]))
    from sgxl_t.datasets.base import SourceOptions
    from sgxl_t.datasets.decode import Bounds
    from sgxl_t.datasets.images.imagenet import TarOfTarsSource
    from sgxl_t.datasets.rejects import Rejects

    source = TarOfTarsSource(
        path, SourceOptions(resolution=16, rejects=Rejects(1.0), bounds=Bounds(max_file_bytes=20_000))
    )
    assert source.rejects.by_reason() == {"file too large": 1}
    monkeypatch.setattr("sgxl_t.datasets.images.imagenet.MAX_MEMBERS", 0)
    with pytest.raises(ValueError, match="holds more than 0 pictures"):
        TarOfTarsSource(path, SourceOptions(resolution=16, rejects=Rejects(1.0)))


def test_a_download_that_broke_off_is_one_sentence(tar, tmp_path, capsys):
    tar.write_bytes(tar.read_bytes()[:30_000])
    code, out, err = command(capsys, tar, tmp_path / "d.zip", "--resolution", 16)
    assert (code, out) == (2, "")
    assert "breaks off" in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "d.zip").exists()


def test_other_tars_are_no_tars_of_tars(tmp_path):
    (tmp_path / "s.tar").write_bytes(tarred([("0.jpg", jpeg(1)), ("0.json", b"{}")]))
    (tmp_path / "empty.tar").write_bytes(tarred([]))
    (tmp_path / "junk.tar").write_bytes(b"junk" * 400)
    assert not any(is_tar_of_tars(path) for path in tmp_path.iterdir())


def test_one_archive_serves_every_stage_by_one_exact_step(tmp_path):
    """A stage's pictures are those an archive of its own size, made from the large one, would hold."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        photo(number, (80, 64)).save(folder / f"{number}.png")
    write_dataset(open_source(folder, resolution=64), tmp_path / "64.zip", progress=False)
    stored = [sample.image for sample in open_source(tmp_path / "64.zip", resolution=64).samples()]
    for side in (32, 16, 8):
        opened = [sample.image for sample in open_source(tmp_path / "64.zip", resolution=side).samples()]
        for image, large in zip(opened, stored, strict=True):
            whole = Image.fromarray(large.permute(1, 2, 0).numpy())
            exact = np.array(whole.resize((side, side), Image.Resampling.LANCZOS))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), exact)
        write_dataset(
            open_source(tmp_path / "64.zip", resolution=side), tmp_path / f"{side}.zip", progress=False
        )
        own = open_source(tmp_path / f"{side}.zip", resolution=side)
        assert all(torch.equal(a.image, b) for a, b in zip(own.samples(), opened, strict=True))


def test_shrinking_averages_what_it_cannot_show(tmp_path):
    """A grid of single pixels is finer than half the size can show: it must come out grey."""
    grid = np.indices((64, 64)).sum(axis=0) % 2 * 255
    (tmp_path / "p").mkdir()
    for number in range(2):
        Image.fromarray(grid.astype(np.uint8)).convert("RGB").save(tmp_path / "p" / f"{number}.png")
    write_dataset(open_source(tmp_path / "p", resolution=64), tmp_path / "d.zip", progress=False)
    for side in (32, 16):
        small = open_source(tmp_path / "d.zip", resolution=side)[0].image.float()
        assert small[:, 2:-2, 2:-2].std() < 1
        assert small.mean() == pytest.approx(127.5, abs=1)


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    """A Swin2SR of a few thousand random weights that doubles, with its image processor."""
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution, Swin2SRImageProcessor

    folder = tmp_path_factory.mktemp("swin")
    config = Swin2SRConfig(
        image_size=16, embed_dim=8, depths=[1], num_heads=[2], window_size=4, upscale=2, mlp_ratio=1.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = Swin2SRForImageSuperResolution(config)
        for weight in model.upsample.parameters():
            weight.data.mul_(8)  # fresh weights would give flat grey
        model.save_pretrained(folder)
    Swin2SRImageProcessor(size_divisor=4).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("processor", [True, False])
def test_small_pictures_are_enlarged_by_the_network(swin, tmp_path, capsys, processor):
    from transformers import Swin2SRForImageSuperResolution, Swin2SRImageProcessor

    if not processor:
        for path in list(swin.glob("*processor*")):
            path.rename(path.with_suffix(".away"))
    folder = tmp_path / "photos"
    folder.mkdir()
    small, large = photo(1, (20, 18)), photo(2, (80, 70))
    small.save(folder / "a.png")
    large.save(folder / "b.png")
    arguments = [folder, tmp_path / "d.zip", "--resolution", 64, "--upscale-model", swin, "--json"]
    code, out, _ = command(capsys, *arguments)
    for path in swin.glob("*.away"):
        path.rename(path.with_suffix(".json"))
    assert code == 0
    assert (json.loads(out)["enlarged"], json.loads(out)["enlarged_by"]) == (1, str(swin))
    table = json.loads(zipfile.ZipFile(tmp_path / "d.zip").read("dataset.json"))
    assert (table["prepared"]["enlarged"], table["prepared"]["enlarged_by"]) == (1, str(swin))
    model = Swin2SRForImageSuperResolution.from_pretrained(swin).eval()
    square = small.crop((1, 0, 19, 18))
    while square.width < 64:
        if processor:
            padded = Swin2SRImageProcessor.from_pretrained(swin)(square, return_tensors="pt")["pixel_values"]
        else:
            extra = -square.width % 4
            pixels = np.asarray(square, np.float32).transpose(2, 0, 1)[None] / 255
            margins = ((0, 0), (0, 0), (0, extra), (0, extra))
            padded = torch.from_numpy(np.pad(pixels, margins, mode="edge"))
        with torch.no_grad():
            answer = model(pixel_values=padded).reconstruction[0].clamp(0, 1)
        answer = answer[:, : 2 * square.width, : 2 * square.width]
        square = Image.fromarray((answer * 255).round().byte().permute(1, 2, 0).numpy())
    assert square.width == 72
    assert np.array(square).std() > 4
    expected = np.array(square.resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    written = open_source(tmp_path / "d.zip", resolution=64)
    assert np.abs(written[0].image.permute(1, 2, 0).numpy() - expected).max() <= 1
    shrunk = np.array(large.crop((5, 0, 75, 70)).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(written[1].image.permute(1, 2, 0).numpy(), shrunk)


@pytest.mark.parametrize("kind", ["zip", "shards"])
def test_lanczos_is_said_where_no_network_was_named(tmp_path, kind):
    (tmp_path / "p").mkdir()
    photo(1, (20, 18)).save(tmp_path / "p" / "a.png")
    target = tmp_path / ("d.zip" if kind == "zip" else "d")
    report = write_dataset(open_source(tmp_path / "p", resolution=32), target, format=kind, progress=False)
    assert (report.enlarged, report.enlarged_by) == (1, "Lanczos")
    if kind == "zip":
        prepared = json.loads(zipfile.ZipFile(target).read("dataset.json"))["prepared"]
    else:
        prepared = json.loads((target / "prepared.json").read_text())
    assert (prepared["enlarged"], prepared["enlarged_by"]) == (1, "Lanczos")
    again = open_source(tmp_path / "p", resolution=32)
    assert write_dataset(again, target, format=kind, overwrite=True, progress=False).images == 1


def test_a_network_that_cannot_enlarge_is_one_sentence(tmp_path, swin):
    with pytest.raises(ValueError, match="could not be loaded") as error:
        ModelEnlarger(str(tmp_path))
    assert "\n" not in str(error.value)
    enlarger = ModelEnlarger(str(swin), device="cpu")

    class Same(torch.nn.Module):
        config = enlarger.model.config

        def forward(self, pixel_values):
            return type("Answer", (), {"reconstruction": pixel_values})

    enlarger.model = Same()
    with pytest.raises(ValueError, match="1 times as large"):
        enlarger(photo(1, (16, 16)), 32)
