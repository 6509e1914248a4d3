import io
import json
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sgxl_t.datasets.open import open_source
from sgxl_t.datasets.shards.source import ShardOptions
from sgxl_t.files import content
from sgxl_t.metrics.real_cache import RealImages


@pytest.fixture(autouse=True)
def _memory(tmp_path, monkeypatch):
    """Hashes are remembered at once, as those of large sets are."""
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "WORTH_FILES", 1)
    monkeypatch.setattr(content, "SETTLED_SECONDS", -1)


def bitmap(value):
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(file, "BMP")
    return file.getvalue()


def make_folder(path, values):
    for number, value in enumerate(values):
        (path / "in").mkdir(parents=True, exist_ok=True)
        (path / "in" / f"{number}.bmp").write_bytes(bitmap(value))
    return path


def make_zip(path, values):
    with zipfile.ZipFile(path, "w") as archive:
        for number, value in enumerate(values):
            archive.writestr(zipfile.ZipInfo(f"{number}.bmp"), bitmap(value))
    return path


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def make_shard(path, values):
    with tarfile.open(path, "w") as tar:
        for number, value in enumerate(values):
            add(tar, f"{number}.bmp", bitmap(value))
            add(tar, f"{number}.json", json.dumps({"width": 16, "height": 16}).encode())
    return path


def make_tar_of_tars(path, values):
    with tarfile.open(path, "w") as outer:
        for label in ("cat", "dog"):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number, value in enumerate(values):
                    add(tar, f"{number}.bmp", bitmap(value))
            add(outer, f"{label}.tar", inner.getvalue())
    return path


MAKERS = {"folder": make_folder, "zip": make_zip, "shard": make_shard, "tars": make_tar_of_tars}
ENDINGS = {"folder": "", "zip": ".zip", "shard": ".tar", "tars": ".tar"}


def fingerprint(path, **options):
    return open_source(path, resolution=16, **options).fingerprint()


@pytest.mark.parametrize("kind", MAKERS)
def test_pictures_of_equal_names_and_sizes_are_told_apart(tmp_path, kind):
    for place in ("one", "two", "three"):
        (tmp_path / place).mkdir()
    one, two, three = (tmp_path / place / f"set{ENDINGS[kind]}" for place in ("one", "two", "three"))
    for path, values in ((one, (1, 2)), (two, (3, 4)), (three, (1, 2))):
        MAKERS[kind](path, values)
    assert fingerprint(one) == fingerprint(three), "equal content elsewhere"
    assert fingerprint(one) != fingerprint(two)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_changed_picture_is_seen_whatever_its_times_say(tmp_path, kind):
    path = tmp_path / f"set{ENDINGS[kind]}"
    MAKERS[kind](path, (1, 2))
    before = fingerprint(path)
    MAKERS[kind](tmp_path / "other", (1, 7))
    changed, other = (
        place / "in" / "1.bmp" if kind == "folder" else place for place in (path, tmp_path / "other")
    )
    times, data = os.stat(changed), changed.read_bytes()
    assert len(other.read_bytes()) == len(data)
    changed.write_bytes(other.read_bytes())
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert os.stat(changed).st_mtime_ns == times.st_mtime_ns
    assert fingerprint(path) != before
    changed.write_bytes(data)
    assert fingerprint(path) == before


@pytest.mark.parametrize("kind", MAKERS)
def test_a_moved_set_is_the_same(tmp_path, kind):
    path = tmp_path / f"set{ENDINGS[kind]}"
    MAKERS[kind](path, (1, 2))
    before = fingerprint(path)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / path.name
    shutil.move(path, moved)
    assert fingerprint(moved) == before


def test_what_a_picture_is_called_and_said_to_show_counts(tmp_path):
    path = make_folder(tmp_path / "set", (1, 2))
    found = {fingerprint(path), fingerprint(path, mirror=True)}
    for text in ("a", "b"):
        for number in range(2):
            (path / "in" / f"{number}.txt").write_text(text)
        found.add(fingerprint(path))
    (path / "in" / "1.bmp").rename(path / "in" / "2.bmp")
    (path / "in" / "1.txt").rename(path / "in" / "2.txt")
    found.add(fingerprint(path))
    assert len(found) == 5


def test_the_table_that_a_filter_reads_counts(tmp_path):
    shard = make_shard(tmp_path / "0.tar", (1, 2))
    options = ShardOptions(filter="score > 1")
    found = set()
    for scores in ([2, 3], [2, 0]):
        pd.DataFrame({"key": ["0", "1"], "score": scores}).to_parquet(tmp_path / "0.parquet")
        found.add(fingerprint(shard, shards=options))
        unfiltered = fingerprint(shard)
    assert len(found) == 2
    assert unfiltered == fingerprint(shard)


def test_addresses_are_all_that_is_known_of_what_is_fetched_until_it_is_measured(tmp_path):
    reference, found = f"pipe:cat {tmp_path}/0.tar", []
    for values in ((1, 2), (3, 4)):
        make_shard(tmp_path / "0.tar", values)
        source = open_source(reference, resolution=16)
        found.append((source.fingerprint(), RealImages(source, reference).fingerprint))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
    long = "x" * 150  # names in messages end there
    (tmp_path / long).mkdir()
    for name in ("1.tar", "2.tar"):
        make_shard(tmp_path / long / name, (1, 2))
    one, two = (f"pipe:cat {tmp_path}/{long}/{name}" for name in ("1.tar", "2.tar"))
    assert fingerprint(one) != fingerprint(two)
