"""Which shards a reference names: folders, patterns, URLs, commands, and lists of these with weights."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sgxl_t.datasets.images.folder import split_folder
from sgxl_t.datasets.images.members import is_system
from sgxl_t.datasets.shards.braces import expand
from sgxl_t.datasets.shards.tar.opening import COMMAND, is_command, is_local
from sgxl_t.files.regular import is_regular, read_regular
from sgxl_t.files.terminal import visible

log = logging.getLogger(__name__)

MAX_LIST_BYTES = 2**28
MAX_SHARDS = 1_000_000
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class Subset:
    """Shards that are drawn alike: paths, URLs or commands.

    weight: share of all draws that fall on this subset, relative to the others; None without weights.
    """

    name: str
    shards: tuple[str, ...]
    weight: float | None = None


@dataclass(frozen=True)
class Consent:
    """Whether commands may run.

    typed: the reference was written on the command line or in Python, so that its command may; not one from
    a configuration. allow_pipe: commands of configurations and of lists may, too.
    """

    typed: bool = True
    allow_pipe: bool = False


TYPED = Consent()


def find_shards(reference: str, split: str = "train", consent: Consent = TYPED) -> list[Subset]:
    """The shards behind a reference; [] when it does not look like shards.

    A folder is searched whole. A pattern has braces, or * and ? for paths: `laion/{00000..00099}.tar`,
    `https://host/{000..010}.tar`, `pipe:aws s3 cp s3://bucket/{000..010}.tar -`. A .txt file lists folders
    and patterns, one a line, each with a weight before it or none of them. Commands are shown before anything
    runs them. Raises ValueError for shards that do not exist or are no files, lists that cannot be read, and
    commands without consent.
    """
    path = Path(reference) if is_local(reference) else Path("/dev/null")
    if path.is_dir():
        return _of_split(path, _in_folder(path), split)
    listed = path.suffix.lower() == ".txt" and is_regular(path)
    if not listed and not _is_pattern(reference):
        return []
    if split != "train":
        raise ValueError(f"{reference} has no split {split!r}: name the shards of that split themselves")
    if listed:
        return _read_list(path, consent)
    shards = _expand(reference)
    _check_commands("data.source", reference, shards, allowed=consent.typed or consent.allow_pipe)
    return [Subset(reference, shards)]


def complete_shards(shards: list[str]) -> list[str]:
    """Without the shards that img2dataset is still writing: it adds NAME_stats.json to each complete one.

    A folder without any such file is taken as complete.
    """
    done = {shard for shard in shards if Path(shard[: -len(".tar")] + "_stats.json").exists()}
    noted = {Path(shard).parent for shard in done}
    return [shard for shard in shards if shard in done or Path(shard).parent not in noted]


def _is_pattern(reference: str) -> bool:
    if is_local(reference) and reference.lower().endswith(COMPRESSED):
        raise ValueError(
            f"{reference} is a compressed archive, and shards are read without unpacking: unpack it to .tar"
        )
    return not is_local(reference) or reference.endswith(".tar")


def _in_folder(folder: Path) -> list[str]:
    return complete_shards(sorted(_tars(folder)))


def _tars(folder: Path) -> Iterator[str]:
    """Paths of all .tar below a folder, also behind links to folders; hidden ones are passed over."""
    seen = set()
    for current, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        inner[:] = [] if real in seen else [name for name in inner if not is_system(name)]
        if real not in seen:
            tars = (name for name in names if name.endswith(".tar") and not is_system(name))
            yield from (str(Path(current, name)) for name in tars)
        seen.add(real)


def _of_split(folder: Path, shards: list[str], split: str) -> list[Subset]:
    if not shards:
        return []
    inside = split_folder(folder, split)
    chosen = tuple(shard for shard in shards if Path(shard).is_relative_to(inside))
    if not chosen:
        raise ValueError(f"{inside} holds no .tar shards: put them there or name another split")
    return [Subset(str(folder), chosen)]


def _expand(pattern: str, base: Path | None = None) -> tuple[str, ...]:
    """All shards of a pattern; paths that are not absolute begin at `base`."""
    shards: list[str] = []
    for name in expand(pattern, MAX_SHARDS):
        name = url2pathname(urlsplit(name).path) if name.startswith("file://") else name
        if not is_local(name):
            shards.append(name)
            continue
        path = str(Path(name) if base is None else base / name)
        found = glob.glob(path, recursive=True) if glob.has_magic(path) and not Path(path).is_file() else []
        shards += sorted(found) or [path]
    local = [shard for shard in shards if is_local(shard)]
    if missing := [shard for shard in local if not Path(shard).exists()]:
        raise ValueError(
            f"{len(missing)} of {len(shards)} shards do not exist (first: {visible(missing[0])}): check the "
            "pattern"
        )
    if other := next((shard for shard in local if not is_regular(shard)), None):
        raise ValueError(
            f"{visible(other)} is not a file but a folder, named pipe or device: name .tar files"
        )
    done = set(complete_shards(local)) if local else set()
    return tuple(shard for shard in shards if shard in done or not is_local(shard))


def _check_commands(where: str, pattern: str, shards: tuple[str, ...], *, allowed: bool) -> None:
    """Shows the command that a pattern names, or raises ValueError where it may not run."""
    if not any(map(is_command, shards)):
        return
    shown = visible(pattern.removeprefix(COMMAND))
    if not allowed:
        raise ValueError(
            f"{where} runs the command `{shown}`: lists and configurations may do so only when the command "
            "line says --data.allow_pipe true; read what they run first"
        )
    _announce(f"{where} runs the command `{shown}`")


@cache
def _announce(text: str) -> None:
    """Once in a process, however often its data is opened; as a warning, which every command shows."""
    log.warning(text)


def _read_list(path: Path, consent: Consent) -> list[Subset]:
    """Lines `PATTERN` or `WEIGHT PATTERN`; empty lines and lines that begin with # do not count."""
    try:
        lines = read_regular(path, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a list of shards: it is not UTF-8 text") from error
    subsets: list[Subset] = []
    count = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            subsets.append(_listed(path, number, text, consent))
            count += len(subsets[-1].shards)
        if count > MAX_SHARDS:
            raise ValueError(f"{path} names more than {MAX_SHARDS} shards: make fewer and larger ones")
    weighted = [subset for subset in subsets if subset.weight is not None]
    if weighted and len(weighted) < len(subsets):
        raise ValueError(
            f"{path} gives {len(weighted)} of {len(subsets)} lines a weight: give all lines one, or none"
        )
    if weighted and sum(subset.weight or 0 for subset in weighted) == 0:
        raise ValueError(f"{path} gives all lines the weight 0: give one of them a greater weight")
    if not subsets:
        raise ValueError(f"{path} lists no shards: write one folder, pattern or shard a line")
    return subsets


def _listed(path: Path, number: int, text: str, consent: Consent) -> Subset:
    head, _, rest = text.partition(" ")
    try:
        weight: float | None = float(head) if rest else None
    except ValueError:
        weight = None
    pattern = text if weight is None else rest.strip()
    if weight is not None and not 0 <= weight < float("inf"):
        raise ValueError(f"{path}, line {number}: weight {head} is not valid: use a number of 0 or more")
    folder = path.parent / pattern
    if is_local(pattern) and folder.is_dir():
        shards = tuple(_in_folder(folder))
    elif _is_pattern(pattern):
        shards = _expand(pattern, path.parent)
    else:
        shards = ()
    _check_commands(f"{path}, line {number},", pattern, shards, allowed=consent.allow_pipe)
    if any(not is_local(shard) and not is_command(shard) for shard in shards):
        _announce(f"{path}, line {number}, fetches {visible(pattern)}")
    if not shards:
        raise ValueError(
            f"{path}, line {number}: {pattern!r} names no shards: use a folder of .tar files, a pattern that "
            "ends in .tar, a URL or pipe:COMMAND"
        )
    return Subset(pattern, shards, weight)
