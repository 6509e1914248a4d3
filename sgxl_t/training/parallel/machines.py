"""Machines with disks of their own: all processes go on from what the main process has on its disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.files.whole import whole_file
from sgxl_t.training.checkpoint.checkpoint import find_newest, manifest_hash, remove_old
from sgxl_t.training.parallel.main_process import end_together, kimg_of, on_main_process, refuse
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")

Found = tuple[str, str] | None
"""Name of the newest whole checkpoint of a folder and hash of its manifest, which has those of all files."""


def share_checkpoint(runtime: Runtime, run: Path, *, keep: int) -> None:
    """Every machine has the main process's newest checkpoint of a run folder, and no newer one.

    keep: how many checkpoints machines that were sent one keep. Where a process finds one of more images than
    the main process does, all end with one sentence, as going on would lose them.
    """
    if runtime.world_size == 1:
        return
    root = run / "checkpoints"
    found = _found(runtime, root)
    newest = found[0]
    ahead = [
        rank for rank, theirs in enumerate(found) if theirs and (newest is None or theirs[0] > newest[0])
    ]
    if ahead:
        theirs = found[ahead[0]]
        assert theirs is not None
        refuse(
            runtime,
            f"{_processes(ahead)} found a checkpoint at {_kimg(theirs)} in {root}, and the main process "
            f"{'none' if newest is None else f'one at {_kimg(newest)}'}: start the machine that has it as "
            "machine 0, or copy the run folder there, or remove it where it is of no use",
        )
    lacking = [rank for rank, theirs in enumerate(found) if theirs != newest]
    if newest is None or not lacking:
        return
    log.info("%s found no such checkpoint as %s and will be sent it", _processes(lacking), root / newest[0])
    share_files(runtime, root / newest[0])
    if runtime.rank in lacking:
        remove_old(root, root / newest[0], keep)


def check_same_checkpoint(runtime: Runtime, run: Path, setting: str) -> None:
    """All processes must find the same newest checkpoint in a folder that the run only reads; ValueError.

    setting: as the user gave it.
    """
    if runtime.world_size == 1:
        return
    found = _found(runtime, run / "checkpoints")
    other = [rank for rank, theirs in enumerate(found) if theirs != found[0]]
    if other:
        refuse(
            runtime,
            f"{setting}: {_processes(other)} found another checkpoint there than the main process, or none: "
            "give all machines the same folder",
        )


def share_files(runtime: Runtime, folder: Path) -> None:
    """The main process's files below a folder of the run come to the machines that lack them, or have others.

    Files that the main process has not stay where they are.
    """
    if runtime.world_size == 1:
        return
    for writes in (runtime.first_on_machine, True):  # the others of a machine mostly see the same disk
        everywhere = runtime.gather_objects(_hashes(folder))
        main = everywhere[0]
        wanted = sorted(name for name in main if any(theirs.get(name) != main[name] for theirs in everywhere))
        lacking = {name for name in wanted if everywhere[runtime.rank].get(name) != main[name]}
        with on_main_process(runtime, folder, "files of the main process"):
            for name in wanted:
                data = runtime.from_main((folder / name).read_bytes() if runtime.is_main else b"")
                if writes and name in lacking:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with whole_file(folder / name) as aside:
                        aside.write_bytes(data)


def check_agreement(runtime: Runtime, state: TrainState) -> None:
    """All processes must begin at the same image with the same weights; ValueError before any update.

    Weights of trained networks that a back end shards are not compared.
    """
    if runtime.world_size == 1:
        return
    frozen = weights_hash(network.parameters() for network in state.frozen)
    facts = [
        ("number of images that it begins at", str(state.images_seen)),
        ("set of weights in its feature networks and guides", frozen),
    ]
    if runtime.mode != "fsdp" and runtime.zero_stage < 3:
        trained = [network.raw.parameters() for network in state.networks.values()]
        facts.append(("set of weights in the networks that train", weights_hash(trained)))
    runtime.check_same(facts)


@torch.no_grad()
def weights_hash(networks: Iterable[Iterable[Tensor]]) -> str:
    """Sixteen hex digits over shapes and values of tensors in their order, on any device.

    Values count by sums of their bits as integers, which are exact and quick.
    """
    digest = hashlib.sha256()
    for network in networks:
        for tensor in network:
            plain = tensor.detach().contiguous().reshape(-1)
            words = plain.view(torch.int32) if plain.element_size() == 4 else plain.view(torch.uint8)
            digest.update(f"{tuple(tensor.shape)} {int(words.sum(dtype=torch.int64))}".encode())
    return digest.hexdigest()[:16]


def _found(runtime: Runtime, root: Path) -> list[Found]:
    """What each process finds. Damaged checkpoints are the main process's to complain of."""
    newest = None
    with end_together(runtime):
        try:
            newest = find_newest(root)
        except ValueError:
            if runtime.is_main:
                raise
    return runtime.gather_objects(None if newest is None else (newest.name, manifest_hash(newest)))


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by its name there, but those that are being written."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as stream:
                found[name.as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _kimg(found: tuple[str, str]) -> str:
    return f"{kimg_of(Path(found[0])):g} kimg"


def _processes(ranks: list[int]) -> str:
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
