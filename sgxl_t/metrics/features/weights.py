"""Weights of extractors: found or fetched, checked, read without running code, cached as safetensors."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import sys
import urllib.error
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgxl_t.files.cache import cache_folder
from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.whole import whole_file
from sgxl_t.metrics.features.base import COUNTERS
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.networks.weights.missing import MissingWeightsError

TIMEOUT_SECONDS = 30.0
"""Longest wait for a server's next bytes."""


def missing_weights(name: str) -> MissingWeightsError:
    """The error for a named extractor without weights: which file, from where, and where to put it."""
    known = KNOWN[name]
    fetch = "connect to the hub once, " if known.reference else ""
    return MissingWeightsError(
        f"the weights of {name} are missing: {fetch}put {known.file} ({known.origin}) into "
        f"{cache_folder() / 'weights'}, or name the file with --weights {name}=FILE; without it, "
        "fd_local:FOLDER measures with a network made by `sgxl-t features train`"
    )


@dataclass(frozen=True)
class WeightsFile:
    """A file on this machine and the SHA-256 it has."""

    path: Path
    sha256: str


def find_weights(name: str, weights: str | None, sha256: str | None) -> WeightsFile | None:
    """The weights file of a named extractor, checked; None where no file was named and none is in place.

    weights: a path, or a URL that may end in #sha256=HEX. sha256: what the file must have. A file that is
    found under its published name must have the published hash. ValueError where it has another, does not
    exist or cannot be fetched.
    """
    remote = weights is not None and re.match("https?://", weights) is not None
    if weights is not None and remote:
        weights, _, own = weights.partition("#sha256=")
        sha256 = sha256 or own or None
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256={sha256!r} is no SHA-256: give its 64 hex digits")
    wanted = sha256.lower() if sha256 else ""
    if weights is None:
        return _in_place(name, wanted)
    if remote:
        return _download(weights, wanted)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ValueError(f"{path} is no file: give the weights of {name} ({KNOWN[name].origin})")
    return _checked(path, wanted)


def _in_place(name: str, wanted: str) -> WeightsFile | None:
    known = KNOWN[name]
    folders = [cache_folder() / "weights"]
    if known.sha256:
        folders.append(Path(torch.hub.get_dir()) / "checkpoints")  # where torchvision and others fetch it to
    for folder in folders:
        if (folder / known.file).is_file():
            return _checked(folder / known.file, wanted or known.sha256)
    return None


def _checked(path: Path, wanted: str) -> WeightsFile:
    found = _sha256(path)
    if wanted and found != wanted:
        raise ValueError(f"{path} has the SHA-256 {found} instead of {wanted}: fetch the file again")
    return WeightsFile(path, found)


def _download(url: str, wanted: str) -> WeightsFile:
    """Fetches a file into the cache, where it appears whole and with the right hash, or not at all."""
    if not wanted:
        raise ValueError(f"{url} cannot be trusted without its hash: add #sha256= and its 64 hex digits")
    name = re.sub("[^A-Za-z0-9._-]", "_", url.rpartition("/")[2].partition("?")[0]) or "weights"
    path = cache_folder() / "downloads" / f"{wanted[:16]}-{name}"
    if path.is_file():
        return _checked(path, wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, _timeout(TIMEOUT_SECONDS):
        try:
            torch.hub.download_url_to_file(url, str(part), progress=sys.stderr.isatty())
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{url} could not be fetched ({reason}): fetch it another way and give the file"
            ) from error
        found = _sha256(part)
        if found != wanted:
            raise ValueError(
                f"{url} has the SHA-256 {found} instead of {wanted}: nothing was kept, "
                "check the address and the hash"
            )
    return WeightsFile(path, wanted)


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """New connections fail when nothing arrives for so long; torch.hub has no option for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(
    module: nn.Module,
    source: WeightsFile,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Fills a module, which may be on the meta device, with exactly the tensors of a file, as float32.

    adapt: from the file's names and shapes to the module's. A PyTorch file is kept as safetensors in the
    cache once it has fitted. ValueError in one sentence for files that are broken, hold code, or do not fit.
    """
    if source.path.suffix == ".safetensors":
        fill(module, adapt(read_safetensors(source.path)), source.path)
        return
    converted = cache_folder() / "converted" / f"{source.sha256}.safetensors"
    if converted.is_file():
        fill(module, adapt(read_safetensors(converted)), source.path)
        return
    tensors = read_state_dict(source.path)
    fill(module, adapt(tensors), source.path)
    # A cache that cannot be written costs the next start some time and nothing else.
    with contextlib.suppress(OSError, SafetensorError):
        converted.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(converted) as part:
            write_tensors(part, tensors)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, in their stored shapes and dtypes; ValueError when the file is broken."""
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise ValueError(f"{path} is truncated or no safetensors file: fetch it again") from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch state dict by name, on the CPU, in their stored shapes and dtypes.

    Code in the file is never run; ValueError for such a file and for a broken one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of programs in the file, which our sentence is about
            tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a broken pickle may raise anything
        tensors = None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(
            f"{path} is truncated or no plain PyTorch state dict, and files that hold code are not run: "
            "give a state dict saved by torch.save, or safetensors"
        )
    return dict(tensors)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path | str) -> None:
    """Puts float32 tensors into a module; ValueError names the first missing, unknown or misshapen one."""
    wanted = module.state_dict()
    given = {name: value for name, value in tensors.items() if not name.endswith(COUNTERS)}
    other = "it holds the weights of another network"
    for name, value in wanted.items():
        if name.endswith(COUNTERS):
            given[name] = torch.zeros((), dtype=torch.long)
        elif name not in given:
            raise ValueError(f"{where} lacks the tensor {name}: {other}")
        elif given[name].shape != value.shape:
            raise ValueError(
                f"{where} holds {name} with shape {list(given[name].shape)} instead of "
                f"{list(value.shape)}: {other}"
            )
        else:
            given[name] = given[name].float().contiguous()
    unknown = next((name for name in given if name not in wanted), None)
    if unknown is not None:
        raise ValueError(f"{where} holds the unknown tensor {unknown}: {other}")
    module.load_state_dict(given, assign=True)
    assert not any(value.is_meta for value in module.buffers()), "a buffer that no file holds has no values"
