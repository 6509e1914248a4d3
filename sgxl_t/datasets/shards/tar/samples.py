"""Samples of one shard: files with one name and different endings, their bytes or where these lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from sgxl_t.datasets.decode import Bounds, is_image
from sgxl_t.datasets.images.layout import file_kind
from sgxl_t.datasets.images.members import is_system
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.shards.tar.headers import Forward, Member, ShardError, members
from sgxl_t.datasets.shards.tar.opening import open_shard, shard_name
from sgxl_t.files.regular import open_regular
from sgxl_t.files.untrusted import UntrustedValueError, parse_json

CAPTION_ENDINGS = ("txt", "caption", "captions", "text", "prompt")
"""Endings of texts that are captions, the first that a sample has."""
LABEL_ENDINGS = ("cls", "class", "label")
TEXT_ENDINGS = (*CAPTION_ENDINGS, *LABEL_ENDINGS, "json")
MAX_SAMPLES = 5_000_000
"""Samples of one shard, whose names are kept to find those that come twice."""
MAX_TEXT_BYTES = 2**22
MAX_FILES = 64
"""Files of one sample; more are rejected."""

Group = dict[str, Any]
"""One sample: bytes by ending, or (offset, size) of the bytes; "__key__", "__url__" and "__start__", the
offset of its first header; "__json__", its json once read. Files of other kinds have None."""


def group_name(group: Group) -> str:
    """How a sample is called in the list of rejects."""
    return f"{shard_name(group['__url__'])}/{group['__key__']}"


def image_ending(group: Group) -> str | None:
    """Ending of the sample's image, the first that it has; None where it has none."""
    return next(
        (key for key in group if group[key] is not None and key[0] != "_" and is_image(f"x.{key}")), None
    )


def json_of(group: Group) -> dict[str, Any]:
    """The sample's json; empty where there is none or it cannot be read. Read once and kept in the group."""
    if "__json__" not in group:
        group["__json__"] = _parsed(group)
    return cast("dict[str, Any]", group["__json__"] or {})


def has_broken_json(group: Group) -> bool:
    """Whether the sample has a json that is no group of keys, or cannot be read."""
    json_of(group)
    return group["__json__"] is None


def _parsed(group: Group) -> dict[str, Any] | None:
    data = group.get("json")
    if data is None:
        return {}
    try:
        info = parse_json(data, "json", maximum=MAX_TEXT_BYTES, nan="null").raw
    except UntrustedValueError:
        return None
    return info if isinstance(info, dict) else None


def groups(
    shard: str,
    bounds: Bounds,
    rejects: Rejects,
    *,
    start: int = 0,
    lazy: bool = False,
    unused: Rejects | None = None,
) -> Iterator[Group]:
    """Samples of a shard from byte `start` on, in order; members that systems leave are no part of them.

    lazy: note where the bytes lie, for `load`, instead of reading them; local shards only.
    unused: counts files that are no part of what is read, such as links and files of other kinds.
    Files that are too large, and files and samples that come twice, are rejected. Raises ShardError, after
    all that could be read, when the shard cannot be read to its end.
    """
    label, seen = shard_name(shard), set[str]()
    unused = Rejects() if unused is None else unused
    group: Group = {}
    with open_shard(shard, start) as tar:
        try:
            for member in members(tar, label, rejects, unused):
                if is_system(member.name):
                    continue
                # Only the last ending counts: "a.b.jpg" is the image of sample "a.b".
                stem, dot, ending = member.name.rpartition(".")
                if not (dot and stem) or "/" in ending or ending.startswith("_"):
                    unused.pass_over(file_kind(""), f"{label}/{member.name}")
                    continue
                if group and group["__key__"] != stem:
                    yield group
                    group = {}
                if not group and stem in seen:
                    rejects.add(f"{label}/{stem} again", RejectedItemError("second sample of one name"))
                    continue
                if not group:
                    group = {"__key__": stem, "__url__": shard, "__start__": member.start}
                    seen.add(stem)
                    if len(seen) > MAX_SAMPLES:
                        raise ShardError("shard cannot be read to its end", f"over {MAX_SAMPLES} samples")
                try:
                    if not _put(group, ending.lower(), member, tar, bounds, lazy):
                        unused.pass_over(_unused_kind(ending.lower()), f"{label}/{member.name}")
                except RejectedItemError as error:
                    if isinstance(error, ShardError):
                        raise
                    rejects.add(f"{label}/{member.name}", error)
        except (ShardError, OSError) as error:
            if _has_files(group):
                yield group
            if isinstance(error, ShardError):
                raise
            raise ShardError("shard cannot be read to its end", str(error)) from error
    if group:
        yield group


def _has_files(group: Group) -> bool:
    return any(key[0] != "_" for key in group)


def _is_image(ending: str) -> bool:
    return is_image(f"x.{ending}")


def _unused_kind(ending: str) -> str:
    return "further picture of a sample" if _is_image(ending) else file_kind(f".{ending}")


def _put(group: Group, ending: str, member: Member, tar: Forward, bounds: Bounds, lazy: bool) -> bool:
    """Adds one file to the sample, or raises RejectedItemError; False for what is no part of it: files that
    are neither texts nor images, and images beside the first."""
    if ending in group:
        raise RejectedItemError("second file of one name in a shard")
    if len(group) > MAX_FILES:
        raise RejectedItemError("too many files in one sample", f"more than {MAX_FILES}")
    text = ending in TEXT_ENDINGS
    if not text and not (_is_image(ending) and image_ending(group) is None):
        group[ending] = None
        return False
    if member.size > (MAX_TEXT_BYTES if text else bounds.max_file_bytes):
        raise RejectedItemError("file too large", f"{member.size} bytes")
    if lazy:
        group[ending] = (member.offset, member.size)
        return True
    data = tar.read(member.size)
    if len(data) < member.size:
        raise ShardError("shard cannot be read to its end", f"it ends inside {member.name}")
    group[ending] = data
    return True


def load(group: Group) -> Group:
    """The sample with bytes in place of where they lie."""
    if not any(isinstance(value, tuple) for value in group.values()):
        return group
    try:
        with open_regular(group["__url__"]) as file:
            return {key: _bytes(file, value) for key, value in group.items()}
    except OSError as error:
        raise RejectedItemError("shard cannot be opened", str(error)) from error


def load_texts(file: BinaryIO, group: Group) -> Group:
    """The sample with its texts alone, read from its open shard."""
    texts = {key: group[key] for key in TEXT_ENDINGS if key in group}
    return {key: _bytes(file, value) for key, value in texts.items()}


def _bytes(file: BinaryIO, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    file.seek(value[0])
    return file.read(value[1])
