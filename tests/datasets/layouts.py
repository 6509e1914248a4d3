"""Small data sets of any layout, as a folder and as a zip, and what is found in them."""

import io
import json
import zipfile

from PIL import Image

from sgxl_t.datasets import open_source


def picture(number=0, side=10, kind="png") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (7 * number % 256, number % 256, 40)).save(buffer, kind)
    return buffer.getvalue()


def pictures(*names) -> dict[str, bytes]:
    """Files of pictures by name, each of another colour."""
    return {name: picture(number) for number, name in enumerate(names)}


def dataset_json(**keys) -> bytes:
    return json.dumps(keys).encode()


def write_folder(files, folder):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def write_zip(files, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return path


def opened(place, **options):
    return open_source(place, **{"resolution": 16, "reject_limit": 1.0, **options})


def found(source, prefix=""):
    """What a source says about its pictures, and what it left out, by paths behind `prefix`."""
    rejects = source.rejects
    return {
        "entries": [
            (entry.name.removeprefix(prefix), entry.label, entry.captions) for entry in source.entries
        ],
        "classes": source.class_names,
        "rejects": sorted((name.removeprefix(prefix), reason) for name, reason, _ in rejects.items),
        "notes": dict(rejects.notes),
        "unused": {
            reason: (unused.count, [name.removeprefix(prefix) for name in unused.names])
            for reason, unused in rejects.unused.items()
        },
        "told": tuple(
            None if text is None else text.replace(prefix, "") if prefix else text
            for text in (source.no_labels, source.no_captions)
        ),
    }


def look(files, tmp_path, **options):
    """The source of a folder of these files, once it is known that the zip of them gives the same."""
    folder = opened(write_folder(files, tmp_path / "folder"), **options)
    archive = opened(write_zip(files, tmp_path / "set.zip"), **options)
    assert found(folder) == found(archive)
    return folder


def labels(source):
    """Class name by picture."""
    return {entry.name: source.class_names[entry.label] for entry in source.entries}


def captions(source):
    return {entry.name: entry.caption for entry in source.entries}


def unused(source):
    return {reason: what.count for reason, what in source.rejects.unused.items()}
