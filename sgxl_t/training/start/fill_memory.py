"""What a generator remembers of the data: captions and their pictures as features, read at a run's start."""

from __future__ import annotations

import logging

import torch

from sgxl_t.conditioning import TextCondition
from sgxl_t.datasets.base import ImageSource
from sgxl_t.networks.generators.instance_memory import fixed_picture
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.ops.images import as_rgb, from_uint8
from sgxl_t.training.loop.picture_features import picture_features
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")

AT_A_TIME = 64


@torch.no_grad()
def fill_memory(state: TrainState, source: ImageSource, seed: int) -> None:
    """Fills the memory of the generator and of its average, where they have one, with pictures of the data.

    How pictures are read stays as a start has it, where the network that sees them is the same: the generator
    has learnt by that.
    """
    reader = picture_features(state.ema.network, state.condition, seed)
    if reader is None:
        return
    assert isinstance(state.condition, TextCondition)
    device, count = reader.memory.keys.device, len(reader.memory.keys)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count]
    captions, pictures = [], []
    for part in order.split(AT_A_TIME):
        items = [source[index] for index in part.tolist()]
        images = from_uint8(as_rgb(torch.stack([item.image for item in items])).to(device))
        pictures.append(reader.features(images))
        vectors = state.condition.encode([item.caption or "" for item in items]).c
        assert vectors is not None
        captions.append(vectors)
    reader.memory.fill(
        torch.cat(captions), torch.cat(pictures), reader.features(fixed_picture().to(device))[0]
    )
    mapping = state.ema.network.mapping
    assert isinstance(mapping, MappingT)
    filled = {f"mapping.memory.{name}": value for name, value in reader.memory.state_dict().items()}
    state.g.load_weights({**state.g.weights(), **filled})
    repeated = f", {count - len(order)} of them repeated" if len(order) < count else ""
    log.info("the generator remembers %d pictures of the data%s", count, repeated)
