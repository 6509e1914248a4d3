"""Tar headers block by block: damage is counted and passed over, sizes are bounded, nothing is unpacked.

Python's tarfile ends without a word at a damaged header and loses the rest of a shard; here the next whole
header is looked for.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sgxl_t.datasets.images.annotations import safe_name
from sgxl_t.datasets.images.members import is_system
from sgxl_t.datasets.rejects import RejectedItemError, Rejects

BLOCK = 512
MAX_EXTENSION_BYTES = 2**20
"""Largest extended header (long names) that is read."""
SKIP_BYTES = 2**20
MAX_MEMBER_BYTES = 2**40
"""Largest file that is passed over; a stream that claims more is no archive."""
MAX_SEARCH_BYTES = 2**32
"""How far a whole header is looked for behind damage."""
MAX_EXTENSIONS = 64
"""Extended headers before one file."""
LONG_NAME, EXTENDED = tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE
EXTENSIONS = (LONG_NAME, EXTENDED, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LINE = re.compile(rb"(\d{1,7}) ([^=\n]{1,1000})=")
ENCODING = ("utf-8", "surrogateescape")


class ShardError(RejectedItemError):
    """A shard that cannot be opened, or not be read to its end."""


@dataclass(frozen=True)
class Member:
    """One file of a shard: its name, where its header begins, and its first byte and size."""

    name: str
    start: int
    offset: int
    size: int


@dataclass
class Extended:
    """What headers before that of a file say of it: a longer name, a larger size, that it has holes."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False
    count: int = 0

    def take(self, kind: bytes, data: bytes) -> None:
        """The bytes of one such header; ShardError for more of them than any file needs."""
        self.count += 1
        if self.count > MAX_EXTENSIONS:
            raise ShardError("shard cannot be read to its end", f"over {MAX_EXTENSIONS} headers of one file")
        if kind == LONG_NAME:
            self.name = data.rstrip(b"\0").decode(*ENCODING)
        elif kind == EXTENDED:
            self._take_lines(data)

    def _take_lines(self, data: bytes) -> None:
        """A POSIX extended header, made of lines "LENGTH key=value"."""
        at = 0
        while match := LINE.match(data, at):
            length = int(match[1])
            value = data[match.end() : at + length - 1]
            if match[2] in (b"path", b"GNU.sparse.name"):
                self.name = value.decode(*ENCODING)
            elif match[2] == b"size" and value.isdigit() and len(value) < 16:
                self.size = int(value)
            self.sparse |= match[2].startswith(b"GNU.sparse.")
            if at + length < match.end():
                break
            at += length


class Forward:
    """Reads a file or a pipe from front to back and knows where it is.

    size: of a file that can be seeked, in bytes; None for a pipe, whose skipped bytes are read.
    """

    def __init__(self, file: BinaryIO, *, size: int | None, offset: int = 0) -> None:
        self._file, self.size, self.offset = file, size, offset
        if offset:
            file.seek(offset)

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end."""
        data = self._file.read(count)
        self.offset += len(data)
        return data

    def skip_to(self, offset: int) -> bool:
        """Goes on to `offset`; False when the end comes before."""
        if self.size is not None:
            self._file.seek(offset)
            self.offset = offset
            return offset <= self.size
        while self.offset < offset:
            if not self.read(min(offset - self.offset, SKIP_BYTES)):
                return False
        return True


def members(tar: Forward, label: str, rejects: Rejects, unused: Rejects) -> Iterator[Member]:
    """Files of a tar in order; the caller may read a member's bytes before it asks for the next one.

    label: name of the shard in the list of rejects. Damaged headers, names that leave the shard and sparse
    files are rejected; links and devices are never followed or opened, only counted in `unused`. Raises
    ShardError when the archive is none, or breaks off.
    """
    start: int | None = None
    extended = Extended()
    damage: int | None = None
    while True:
        at = tar.offset
        block = tar.read(BLOCK)
        if len(block) < BLOCK and not (at == 0 and _packed(block)):
            searching = damage is not None
            _at_the_end(rejects, empty=at == 0 and not block, cut=bool(block), searching=searching)
            return
        info = _header(block)
        if info is None:
            if not any(block) and damage is None:
                return  # the mark at the end of every archive
            if at == 0:
                raise ShardError("shard is no tar archive", _packed(block))
            if damage is None:
                rejects.add(f"{label}@{at}", RejectedItemError("broken header in a shard"))
            damage, start, extended = at if damage is None else damage, None, Extended()
            if at - damage > MAX_SEARCH_BYTES:
                raise ShardError("shard cannot be read to its end", f"no header behind byte {damage}")
            continue
        damage = None
        start = at if start is None else start
        if info.type in EXTENSIONS:
            extended.take(info.type, _extension(tar, info))
            continue
        size = info.size if extended.size is None else extended.size
        found = Member(extended.name or info.name, start, tar.offset, size)
        sparse = extended.sparse or info.type == tarfile.GNUTYPE_SPARSE
        start, extended = None, Extended()
        if _has_data(info):
            yield from _checked(found, tar, f"{label}/{found.name}", rejects, sparse=sparse)
        elif not info.isdir() and not is_system(found.name):
            kind = "link in an archive" if info.issym() or info.islnk() else "device in an archive"
            unused.pass_over(kind, f"{label}/{found.name}")


def _header(block: bytes) -> tarfile.TarInfo | None:
    """The header that a block is; None where it is none."""
    try:
        info = _plain(block) or tarfile.TarInfo.frombuf(block, *ENCODING)
    except tarfile.HeaderError:
        return None
    return info if info.size >= 0 else None


def _has_data(info: tarfile.TarInfo) -> bool:
    """Whether bytes follow a header: kinds that are not known are files, as the format asks."""
    return info.isreg() or info.type not in tarfile.SUPPORTED_TYPES


def _checked(found: Member, tar: Forward, name: str, rejects: Rejects, *, sparse: bool) -> Iterator[Member]:
    """The file, unless it is rejected; afterwards the archive stands behind it."""
    end = found.offset + found.size
    if found.size > MAX_MEMBER_BYTES or (tar.size is not None and end > tar.size):
        raise ShardError("shard cannot be read to its end", f"it ends inside {found.name}")
    if sparse:  # its bytes are a map of holes first, and only then those of the file
        rejects.add(name, RejectedItemError("sparse file in an archive"))
    elif _leaves(found.name):
        rejects.add(name, RejectedItemError("path leaves the data set"))
    else:
        yield found
    if not tar.skip_to(end + -found.size % BLOCK):
        raise ShardError("shard cannot be read to its end", f"it ends inside {found.name}")


def _packed(block: bytes) -> str:
    """What a file is compressed by that should be a plain archive; empty where it is not known."""
    kind = next((kind for mark, kind in COMPRESSED.items() if block.startswith(mark)), None)
    return "" if kind is None else f"it is compressed by {kind}: unpack it first"


def _plain(block: bytes) -> tarfile.TarInfo | None:
    """The header of a file with a short name, in a tenth of tarfile's time; None for any other block."""
    if block[156:157] != b"0" or block[257:262] != b"ustar" or block[345]:
        return None
    try:
        checksum, size = int(block[148:154], 8), int(block[124:135], 8)
    except ValueError:
        return None
    if checksum != sum(block) - sum(block[148:156]) + 8 * 32:
        return None
    info = tarfile.TarInfo(block[:100].partition(b"\0")[0].decode(*ENCODING))
    info.size = size
    return info


def _at_the_end(rejects: Rejects, *, empty: bool, cut: bool, searching: bool) -> None:
    if empty:
        raise ShardError("shard is empty or cannot be reached")
    if cut and not searching:
        raise ShardError("shard cannot be read to its end", "it ends inside a header")
    rejects.note("shard without end mark")


def _extension(tar: Forward, info: tarfile.TarInfo) -> bytes:
    if info.size > MAX_EXTENSION_BYTES:
        raise ShardError("shard cannot be read to its end", f"an extended header of {info.size} bytes")
    data = tar.read(info.size + -info.size % BLOCK)
    if len(data) < info.size:
        raise ShardError("shard cannot be read to its end", "it ends inside a header")
    return data[: info.size]


def _leaves(name: str) -> bool:
    # The quick look spares almost every name the closer one.
    return (any(sign in name for sign in ("..", "\\", ":")) and safe_name(name) is None) or name[:1] == "/"
