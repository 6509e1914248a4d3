"""Small shards as img2dataset writes them, and shards that are broken in one way each."""

import io
import json
import tarfile

from PIL import Image


def picture(number=0, size=(20, 20), kind="png", **options) -> bytes:
    """An encoded picture whose red tells its number apart, modulo 251."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 251, 40, 40)).save(buffer, kind, **options)
    return buffer.getvalue()


def sample(number, **fields):
    """Files of one sample by ending."""
    info = {"key": f"{number:09d}", "caption": f"json {number}", "width": 20, "height": 20, **fields}
    return {"png": picture(number), "txt": f"sample {number}".encode(), "json": json.dumps(info).encode()}


def write_tar(path, files):
    """files: (name, bytes) in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def write_shards(folder, shards=4, samples=6, first=0, of=sample):
    """Shards 00000.tar and so on, whose samples are numbered through from `first`."""
    for shard in range(shards):
        numbers = range(first + shard * samples, first + (shard + 1) * samples)
        files = [(f"{number:09d}.{end}", data) for number in numbers for end, data in of(number).items()]
        write_tar(folder / f"{shard:05d}.tar", files)
    return folder


def numbers_of(samples):
    """The numbers of samples by their captions."""
    return [int(one.caption.rsplit(" ", 1)[1]) for one in samples]
