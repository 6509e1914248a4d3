"""One pass over pictures that feeds all features a set of metrics needs, and goes on after a stop."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.files.arrays import read_array
from sgxl_t.files.untrusted import read_json
from sgxl_t.files.whole import whole_file
from sgxl_t.metrics.distances.feature_statistics import Moments
from sgxl_t.metrics.features.resize import lanczos_uint8
from sgxl_t.metrics.processes import Processes

MAX_STATE_BYTES = 2**24
SAVE_EVERY = 2000
"""Pictures of one process after which it saves what it has."""

Pictures = Callable[[Sequence[int]], Tensor]
"""Sample indices to uint8 [n, 3, H, W], a function of each index alone."""
Extract = Callable[[Tensor, Sequence[int]], Mapping[str, Tensor]]
"""Pictures and their indices to features [n, D] by output."""


@dataclass(frozen=True)
class Need:
    """Features of the pictures 0 to count - 1: their moments, or all rows."""

    extractor: str
    output: str
    kind: Literal["moments", "rows"]
    count: int
    resolution: int | None = None
    """Pictures are reduced to this side first; None leaves them."""


Gathered = Moments | Tensor


class Collection:
    """What this process has gathered from the first pictures of its share."""

    def __init__(self, needs: Sequence[Need], widths: Mapping[tuple[str, str], int]) -> None:
        """widths: of each (extractor, output)."""
        self.done = 0
        self.moments = {
            need: Moments(widths[need.extractor, need.output]) for need in needs if need.kind == "moments"
        }
        self.rows = {
            need: torch.empty(0, widths[need.extractor, need.output]) for need in needs if need.kind == "rows"
        }
        self._new: dict[Need, list[Tensor]] = {need: [] for need in self.rows}

    def add(self, indices: Sequence[int], images: Tensor, extractors: Mapping[str, Extract]) -> None:
        """Takes the next pictures of the share."""
        needs = [need for need in (*self.moments, *self.rows) if indices[0] < need.count]
        found: dict[tuple[str, int | None], Mapping[str, Tensor]] = {}
        for need in needs:
            key = need.extractor, need.resolution
            if key not in found:
                seen = _reduced(images, need.resolution)
                found[key] = extractors[need.extractor](seen, indices)
            features = found[key][need.output][: need.count - indices[0]].float().cpu()
            if need.kind == "moments":
                self.moments[need].update(features)
            else:
                self._new[need].append(features)
        self.done += len(indices)

    def settle(self) -> dict[Need, Tensor]:
        """Moves new rows to the others; returns them."""
        fresh = {need: torch.cat([self.rows[need][:0], *parts]) for need, parts in self._new.items()}
        for need, rows in fresh.items():
            self.rows[need] = torch.cat([self.rows[need], rows])
            self._new[need] = []
        return fresh

    def together(self, processes: Processes) -> dict[Need, Gathered]:
        """Sums and rows of all processes; complete on the main one. Every process must call it."""
        self.settle()
        result: dict[Need, Gathered] = {}
        for need, moments in self.moments.items():
            result[need] = moments.all_reduce() if processes.world > 1 else moments
        for need, rows in self.rows.items():
            result[need] = processes.gather_rows(rows)
        return result


class Partial:
    """A folder that keeps a collection while it grows, so that the same work goes on after a stop.

    `state.json` is written last and names its files, so a stop at any time leaves a whole state.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """facts: everything the features depend on; a folder with others is started over."""
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        self._pieces: list[str] = []

    def save(self, collection: Collection) -> None:
        """Writes the new rows beside those written before, and the moments anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tag = f"{collection.done:09d}"
        for number, rows in enumerate(collection.settle().values()):
            _write(self.folder / f"rows{number}-{tag}.npy", rows.numpy())
        for number, moments in enumerate(collection.moments.values()):
            moments.save(self.folder / f"moments{number}-{tag}.npz")
        self._pieces.append(tag)
        state = {"key": self.key, "done": collection.done, "pieces": self._pieces}
        with whole_file(self.folder / "state.json") as aside:
            aside.write_text(json.dumps(state))
        for old in self.folder.glob("moments*.npz"):
            if not old.stem.endswith(tag):
                old.unlink()

    def restore(self, collection: Collection) -> None:
        """Puts back what was saved; anything else than a whole state of the same work is removed."""
        try:
            state = read_json(self.folder / "state.json", maximum=MAX_STATE_BYTES)
            if state["key"].text() != self.key:
                raise ValueError("other work")
            done = state["done"].integer(0, 10**9 - 1)
            pieces = [piece.text(9) for piece in state["pieces"].rows()]
            if not all(re.fullmatch(r"[0-9]{9}", piece) for piece in pieces):
                raise ValueError("no names of pieces")
            rows = {
                need: torch.cat([old, *(self._rows(number, piece, old) for piece in pieces)])
                for number, (need, old) in enumerate(collection.rows.items())
            }
            moments = {
                need: Moments.load(self.folder / f"moments{number}-{done:09d}.npz")
                for number, need in enumerate(collection.moments)
            }
        except (OSError, ValueError):
            self.remove()
            return
        collection.rows.update(rows)
        collection.moments.update(moments)
        collection.done, self._pieces = done, pieces

    def remove(self) -> None:
        """Leaves nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, number: int, piece: str, like: Tensor) -> Tensor:
        rows = read_array(self.folder / f"rows{number}-{piece}.npy")
        if rows.dtype != np.float32 or rows.shape[1:] != like.shape[1:]:
            raise ValueError("no rows of this work")
        return torch.from_numpy(rows)


def collect(
    pictures: Pictures,
    needs: Sequence[Need],
    extractors: Mapping[str, Extract],
    widths: Mapping[tuple[str, str], int],
    *,
    processes: Processes,
    batch_size: int,
    folder: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    label: str = "",
) -> dict[Need, Gathered]:
    """Everything that `needs` ask for, from one pass; complete on the main process.

    Each process takes a contiguous share of the pictures; their sums meet at the end. folder: keeps what was
    gathered, and is removed by the caller once its results are written. facts: what the features depend on.
    An error on one process is raised on all.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} measures no picture: use at least 1")
    share = processes.share(max(need.count for need in needs))
    collection = Collection(needs, widths)
    partial = None
    if folder is not None:
        work = {"facts": facts, "needs": [asdict(need) for need in needs], "share": [share.start, share.stop]}
        partial = Partial(folder / f"{processes.rank}of{processes.world}", work)

    def run() -> None:
        if partial is not None:
            partial.restore(collection)
        saved = collection.done
        hidden = None if processes.is_main else True  # None: where nobody looks at a terminal
        bar = tqdm(
            total=len(share), initial=saved, desc=label, unit="img", delay=2, leave=False, disable=hidden
        )
        with bar:
            while collection.done < len(share):
                start = share.start + collection.done
                indices = range(start, min(start + batch_size, share.stop))
                collection.add(indices, pictures(indices), extractors)
                bar.update(len(indices))
                if partial is not None and collection.done - saved >= SAVE_EVERY:
                    partial.save(collection)
                    saved = collection.done

    processes.agree(run)
    return collection.together(processes)


def _write(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _reduced(images: Tensor, side: int | None) -> Tensor:
    """Pictures as COCO's protocol looks at them: Lanczos to the side, then whole numbers again."""
    return images if side is None or images.shape[-1] == side else lanczos_uint8(images, side)
