"""Which shards a reference names: folders, patterns, URLs, commands, and lists of these with weights."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.datasets.folder import split_folder
from sgxl_t.datasets.shards.samples import is_local

MAX_LIST_BYTES = 2**28


@dataclass(frozen=True)
class Subset:
    """Shards that are drawn alike: paths, URLs or commands.

    weight: share of all draws that fall on this subset, relative to the others; None without weights.
    """

    name: str
    shards: tuple[str, ...]
    weight: float | None = None


def find_shards(reference: str, split: str = "train") -> list[Subset]:
    """The shards behind a reference; [] when it does not look like shards.

    A folder is searched whole. A pattern has braces, or * and ? for paths: `laion/{00000..00099}.tar`,
    `https://host/{000..010}.tar`, `pipe:aws s3 cp s3://bucket/{000..010}.tar -`. A .txt file lists folders
    and patterns, one a line, each with a weight before it or none of them. Raises ValueError for shards that
    do not exist and lists that cannot be read.
    """
    path = Path(reference) if is_local(reference) else Path("/dev/null")
    if path.is_dir():
        return _of_split(path, _in_folder(path), split)
    listed = path.suffix.lower() == ".txt" and path.is_file()
    if not listed and not _is_pattern(reference):
        return []
    if split != "train":
        raise ValueError(f"{reference} has no split {split!r}: name the shards of that split themselves")
    return _read_list(path) if listed else [Subset(reference, _expand(reference))]


def complete_shards(shards: list[str]) -> list[str]:
    """Without the shards that img2dataset is still writing: it adds NAME_stats.json to each complete one.

    A folder without any such file is taken as complete.
    """
    done = {shard for shard in shards if Path(shard[: -len(".tar")] + "_stats.json").exists()}
    noted = {Path(shard).parent for shard in done}
    return [shard for shard in shards if shard in done or Path(shard).parent not in noted]


def _is_pattern(reference: str) -> bool:
    return not is_local(reference) or reference.endswith(".tar")


def _in_folder(folder: Path) -> list[str]:
    return complete_shards(sorted(str(tar) for tar in folder.rglob("*.tar") if not tar.name.startswith(".")))


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
    from webdataset.shardlists import expand_urls

    try:
        names: Iterable[str] = expand_urls(pattern)
    except Exception as error:  # the expander has error classes of its own
        raise ValueError(f"{pattern!r} is no pattern of shards ({error}): check its braces") from error
    shards: list[str] = []
    for name in names:
        if not is_local(name):
            shards.append(name)
            continue
        path = str(Path(name) if base is None else base / name)
        found = glob.glob(path, recursive=True) if glob.has_magic(path) and not Path(path).is_file() else []
        shards += sorted(found) or [path]
    if missing := [shard for shard in shards if is_local(shard) and not Path(shard).is_file()]:
        raise ValueError(
            f"{len(missing)} of {len(shards)} shards do not exist (first: {missing[0]}): check the pattern"
        )
    local = [shard for shard in shards if is_local(shard)]
    done = set(complete_shards(local)) if local else set()
    return tuple(shard for shard in shards if shard in done or not is_local(shard))


def _read_list(path: Path) -> list[Subset]:
    """Lines `PATTERN` or `WEIGHT PATTERN`; empty lines and lines that begin with # do not count."""
    if path.stat().st_size > MAX_LIST_BYTES:
        raise ValueError(f"{path} has more than {MAX_LIST_BYTES} bytes: name folders or patterns in it")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no list of shards: it is not UTF-8 text") from error
    subsets = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            subsets.append(_listed(path, number, text))
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


def _listed(path: Path, number: int, text: str) -> Subset:
    head, _, rest = text.partition(" ")
    try:
        weight: float | None = float(head) if rest else None
    except ValueError:
        weight = None
    pattern = text if weight is None else rest.strip()
    if weight is not None and not 0 <= weight < float("inf"):
        raise ValueError(f"{path}, line {number}: weight {head} is none: use a number of 0 or more")
    folder = path.parent / pattern
    if is_local(pattern) and folder.is_dir():
        shards = tuple(_in_folder(folder))
    elif _is_pattern(pattern):
        shards = _expand(pattern, path.parent)
    else:
        shards = ()
    if not shards:
        raise ValueError(
            f"{path}, line {number}: {pattern!r} names no shards: use a folder of .tar files, a pattern that "
            "ends in .tar, a URL or pipe:COMMAND"
        )
    return Subset(pattern, shards, weight)
