"""Memory that can be had right now, and what one image needs of it."""

from __future__ import annotations

from pathlib import Path

import torch

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.generators.synthesis_xl import SynthesisXL

MAPS = 12
"""Copies of the largest map that an image takes on a CPU, at most. In StyleGAN-XL's size, statistics
of weights included, 57 MiB were measured at 16 px and 79 MiB at 32 px, which are 11 and 7 maps."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that may still be taken on a device; of the CPU's memory the container's limit counts too.

    None where the system does not tell.
    """
    if device.type == "cuda":
        # What torch holds without using it is as good as free.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    found = [value for value in (_of_machine(), _of_container()) if value is not None]
    return max(min(found), 0) if found else None


def image_bytes(generator: Generator) -> int:
    """Bytes that one more image in a batch takes on a CPU, estimated from the sizes of the layers."""
    synthesis = generator.synthesis
    if isinstance(synthesis, SynthesisXL):
        specs = [layer.spec for layer in synthesis.layers()]
        sizes = [spec.in_channels * spec.in_size**2 for spec in specs]
        sizes += [spec.out_channels * spec.out_size**2 for spec in specs]
    elif isinstance(synthesis, SynthesisT):
        sizes = [
            max(layer.weight.shape[:2]) * layer.resolution**2
            for block in synthesis.blocks()
            for layer in block.noisy_layers()
        ]
    else:  # a registered family: its widest layer, as if it had the size of the picture
        widths = [max(weight.shape[:2]) for weight in synthesis.parameters() if weight.ndim == 4]
        sizes = [max(widths, default=generator.config.img_channels) * generator.img_resolution**2]
    return MAPS * max(sizes) * 4


def _of_machine() -> int | None:
    """What Linux says is available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None


def _of_container() -> int | None:
    """What the control group still allows; files that it holds in memory give way."""
    for limit, used, stat in _CGROUPS:
        try:
            values = dict(line.split() for line in Path(stat).read_text().splitlines())
            files = int(values.get("inactive_file", 0))
            return int(Path(limit).read_text()) - int(Path(used).read_text()) + files
        except (OSError, ValueError):
            continue
    return None
