"""Shards as other programs write them: webdataset's own writer, and img2dataset from a local server."""

import functools
import http.server
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from tiny_shards import picture
from webdataset import ShardWriter, TarWriter

from sgxl_t.datasets import open_source

PIXELS = np.full((24, 24, 3), 90, np.uint8)


@pytest.mark.parametrize("form", ["number", "name", "json"])
@pytest.mark.parametrize("compress", [False, True])
def test_shards_of_webdatasets_writer(tmp_path, form, compress):
    fields = {
        "number": lambda n: {"cls": n % 3},
        "name": lambda n: {"cls": "abc"[n % 3].encode()},
        "json": lambda n: {"json": {"label": n % 3, "width": 24}},
    }[form]
    with ShardWriter(f"{tmp_path}/train-%06d.tar", maxcount=20, verbose=0, compress=False) as writer:
        for n in range(50):
            writer.write({"__key__": f"sample{n:06d}", "jpg": PIXELS, **fields(n)})
    if compress:
        with TarWriter(f"{tmp_path}/packed.tar.gz") as writer:
            writer.write({"__key__": "0", "jpg": PIXELS, **fields(0)})
    source = open_source(tmp_path, resolution=16)
    assert [one.label for one in source.samples()] == [n % 3 for n in range(50)]
    assert source.class_names == (("a", "b", "c") if form == "name" else ("0", "1", "2"))
    assert source.rejects.summary() == []


def test_shards_of_clip_benchmark_and_their_names(tmp_path):
    """clip_benchmark's layout: jpg or webp and cls in train/ and test/, the names in a list above."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        with ShardWriter(f"{tmp_path}/{split}/%d.tar", maxcount=5, verbose=0) as writer:
            for n in range(10):
                writer.write({"__key__": f"s{n:07d}", "webp": picture(n, kind="webp"), "cls": n % 2})
        (tmp_path / split / "nshards.txt").write_text("2")
    (tmp_path / "classnames.txt").write_text("airplane\nbird")
    for split in ("train", "test"):
        source = open_source(tmp_path, resolution=16, split=split)
        assert (source.class_names, len(source)) == (("airplane", "bird"), 10)
        assert open_source(tmp_path / split, resolution=16).class_names == ("airplane", "bird")


@pytest.fixture(scope="module")
def img2dataset(tmp_path_factory):
    """Where img2dataset is installed, beside the environment of the tests."""
    target = os.environ.get("IMG2DATASET") or str(tmp_path_factory.mktemp("img2dataset"))
    if not os.environ.get("IMG2DATASET"):
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", target, "img2dataset==1.47.0"]
        subprocess.run(command, check=True, timeout=900)
    return target


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_shards_of_img2dataset(tmp_path, img2dataset):
    """A table with captions, numbers, an empty cell and a dead link, read with captions and by a filter."""
    from sgxl_t.datasets.shards.source import ShardOptions

    (tmp_path / "www").mkdir()
    for n in range(12):
        Image.fromarray(PIXELS + n).save(tmp_path / "www" / f"{n}.jpg")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        rows = [f"{place}/{n}.jpg,sample {n},{n / 10 if n != 5 else ''},kind {n % 2}" for n in range(13)]
        (tmp_path / "list.csv").write_text("\n".join(["url,caption,score,label", *rows]) + "\n")
        code = (
            f"import sys; sys.path.append({img2dataset!r}); from img2dataset import download; "
            "download(url_list='list.csv', input_format='csv', "
            "url_col='url', caption_col='caption', save_additional_columns=['score', 'label'], "
            "output_format='webdataset', output_folder='out', number_sample_per_shard=7, image_size=32, "
            "processes_count=1, thread_count=2, enable_wandb=False, disallowed_header_directives=[])"
        )
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
        command = [sys.executable, "-c", f"if __name__ == '__main__': {code}"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
        server.shutdown()
    source = open_source(tmp_path / "out", resolution=16)
    assert sorted(one.caption for one in source.samples()) == sorted(f"sample {n}" for n in range(12))
    assert source.class_names == ("kind 0", "kind 1")
    assert {one.label == int(one.caption.split()[1]) % 2 for one in source.samples()} == {True}
    assert source.rejects.summary() == []
    kept = open_source(tmp_path / "out", resolution=16, shards=ShardOptions(filter="score > 0.3"))
    assert {int(one.caption.split()[1]) for one in kept.samples()} == {4, *range(6, 12)}
