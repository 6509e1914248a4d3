"""One pass over images that gathers all features a set of metrics needs, and goes on after a stop."""

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
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.features.resize import lanczos_uint8
from sgxl_t.metrics.processes import Processes

MAX_STATE_BYTES = 2**24
SAVE_EVERY = 2000
"""Images of one process after which it saves what it has."""

ImagesByIndex = Callable[[Sequence[int]], Tensor]
"""Sample indices to uint8 [n, 3, H, W], a function of each index alone."""
GatheredFeatures = FeatureStatistics | Tensor
"""Mean and covariance, or all rows float32 [N, D]."""


@dataclass(frozen=True)
class FeatureFunction:
    """How images become features."""

    compute: Callable[[Tensor, Sequence[int]], Mapping[str, Tensor]]
    """Images uint8 [n, 3, H, W] and their indices to features [n, D] by output."""
    widths: Mapping[str, int]
    """D of each output."""


@dataclass(frozen=True)
class FeatureRequest:
    """Features of the images 0 to count - 1, as `collect` is asked for them."""

    extractor: str
    output: str
    kind: Literal["moments", "rows"]
    """Mean and covariance, or all rows. These words stand in stored files."""
    count: int
    resolution: int | None = None
    """Images are reduced to this size first; None leaves them."""


class FeatureCollection:
    """What this process has gathered from the first images of its share."""

    def __init__(self, requests: Sequence[FeatureRequest], functions: Mapping[str, FeatureFunction]) -> None:
        """functions: by name of the extractor."""
        self.done, self.functions = 0, functions
        widths = {one: functions[one.extractor].widths[one.output] for one in requests}
        self.statistics = {
            one: FeatureStatistics(width) for one, width in widths.items() if one.kind == "moments"
        }
        self.rows = {one: torch.empty(0, width) for one, width in widths.items() if one.kind == "rows"}
        self._new: dict[FeatureRequest, list[Tensor]] = {one: [] for one in self.rows}

    def add(self, indices: Sequence[int], images: Tensor) -> None:
        """Takes the next images of the share, uint8 [n, 3, H, W]."""
        found: dict[tuple[str, int | None], Mapping[str, Tensor]] = {}
        for request in (*self.statistics, *self.rows):
            if indices[0] >= request.count:
                continue
            key = request.extractor, request.resolution
            if key not in found:
                seen = _reduced(images, request.resolution)
                found[key] = self.functions[request.extractor].compute(seen, indices)
            features = found[key][request.output][: request.count - indices[0]].float().cpu()
            if request.kind == "moments":
                self.statistics[request].update(features)
            else:
                self._new[request].append(features)
        self.done += len(indices)

    def settle(self) -> dict[FeatureRequest, Tensor]:
        """Appends the new rows [n, D] to the others; returns them."""
        fresh = {request: torch.cat([self.rows[request][:0], *parts]) for request, parts in self._new.items()}
        for request, rows in fresh.items():
            self.rows[request] = torch.cat([self.rows[request], rows])
            self._new[request] = []
        return fresh

    def over_processes(self, processes: Processes) -> dict[FeatureRequest, GatheredFeatures]:
        """Sums and rows of all processes; complete on the main one. Every process must call it."""
        self.settle()
        result: dict[FeatureRequest, GatheredFeatures] = {}
        for request, statistics in self.statistics.items():
            result[request] = statistics.all_reduce() if processes.world > 1 else statistics
        for request, rows in self.rows.items():
            result[request] = processes.gather_rows(rows)
        return result


class SavedCollection:
    """A folder with a collection of features that is not complete, so that the work goes on after a stop.

    `state.json` is written last and names its files, so a stop at any time leaves a whole state.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """facts: everything the features depend on; a folder with others is started over."""
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        self._pieces: list[str] = []

    def save(self, collection: FeatureCollection) -> None:
        """Writes the new rows beside those written before, and the statistics anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tag = f"{collection.done:09d}"
        for number, rows in enumerate(collection.settle().values()):
            _write(self.folder / f"rows{number}-{tag}.npy", rows.numpy())
        for number, statistics in enumerate(collection.statistics.values()):
            statistics.save(self.folder / f"moments{number}-{tag}.npz")
        self._pieces.append(tag)
        state = {"key": self.key, "done": collection.done, "pieces": self._pieces}
        with whole_file(self.folder / "state.json") as aside:
            aside.write_text(json.dumps(state))
        for old in self.folder.glob("moments*.npz"):
            if not old.stem.endswith(tag):
                old.unlink()

    def restore(self, collection: FeatureCollection) -> None:
        """Puts back what was saved; a folder without a whole state of the same work is removed."""
        try:
            state = read_json(self.folder / "state.json", maximum=MAX_STATE_BYTES)
            if state["key"].text() != self.key:
                raise ValueError("the folder belongs to another request")
            done = state["done"].integer(0, 10**9 - 1)
            pieces = [piece.text(9) for piece in state["pieces"].rows()]
            if not all(re.fullmatch(r"[0-9]{9}", piece) for piece in pieces):
                raise ValueError("the names of its files are damaged")
            rows = {
                request: torch.cat([old, *(self._rows(number, piece, old) for piece in pieces)])
                for number, (request, old) in enumerate(collection.rows.items())
            }
            statistics = {
                request: FeatureStatistics.load(self.folder / f"moments{number}-{done:09d}.npz")[0]
                for number, request in enumerate(collection.statistics)
            }
        except (OSError, ValueError):
            self.remove()
            return
        collection.rows.update(rows)
        collection.statistics.update(statistics)
        collection.done, self._pieces = done, pieces

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, number: int, piece: str, like: Tensor) -> Tensor:
        rows = read_array(self.folder / f"rows{number}-{piece}.npy")
        if rows.dtype != np.float32 or rows.shape[1:] != like.shape[1:]:
            raise ValueError("the rows have another type or width")
        return torch.from_numpy(rows)


def collect(
    images: ImagesByIndex,
    requests: Sequence[FeatureRequest],
    functions: Mapping[str, FeatureFunction],
    *,
    processes: Processes,
    batch_size: int,
    folder: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    label: str = "",
) -> dict[FeatureRequest, GatheredFeatures]:
    """All requested features from one pass over the images; complete on the main process.

    functions: by name of the extractor. Each process takes a contiguous share of the images; their sums meet
    at the end. folder: keeps what was gathered, and is removed by the caller once its results are written.
    facts: what the features depend on. label: of the progress bar.
    An error on one process is raised on all.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a batch needs at least one picture, use 1 or more")
    share = processes.share(max(request.count for request in requests))
    collection = FeatureCollection(requests, functions)
    saved = None
    if folder is not None:
        listed = [asdict(request) for request in requests]
        work = {"facts": facts, "needs": listed, "share": [share.start, share.stop]}
        saved = SavedCollection(folder / f"{processes.rank}of{processes.world}", work)

    def run() -> None:
        if saved is not None:
            saved.restore(collection)
        done_saved = collection.done
        hidden = None if processes.is_main else True  # None: where nobody looks at a terminal
        bar = tqdm(
            total=len(share), initial=done_saved, desc=label, unit="img", delay=2, leave=False, disable=hidden
        )
        with bar:
            while collection.done < len(share):
                start = share.start + collection.done
                indices = range(start, min(start + batch_size, share.stop))
                collection.add(indices, images(indices))
                bar.update(len(indices))
                if saved is not None and collection.done - done_saved >= SAVE_EVERY:
                    saved.save(collection)
                    done_saved = collection.done

    processes.agree(run)
    return collection.over_processes(processes)


def _write(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _reduced(images: Tensor, resolution: int | None) -> Tensor:
    """Images uint8 [N, 3, R, R] by Lanczos to [N, 3, resolution, resolution], as COCO's protocol has it."""
    if resolution is None or images.shape[-1] == resolution:
        return images
    return lanczos_uint8(images, resolution)
