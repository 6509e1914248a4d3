"""Drawn pictures, and what people see at once in planted ones: grain, blur, few pictures again and again."""

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def discs(count: int, seed: int = 0) -> Tensor:
    """Discs of several colours on white, uint8 [N, 3, 32, 32]: flat places and sharp edges."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centres, radii = 8 + 16 * torch.rand(count, 2, generator=rng), 4 + 6 * torch.rand(count, generator=rng)
    across = (rows - centres[:, :1, None]).square() + (columns - centres[:, 1:, None]).square()
    inside = (across < radii[:, None, None].square())[:, None]
    colours = torch.randint(0, 200, (count, 3, 1, 1), generator=rng)
    return torch.where(inside, colours, 250).to(torch.uint8)


def planted(fault: str, pictures: Tensor) -> Tensor:
    """Pictures uint8 [N, 3, 32, 32] with a fault: grainy, blurred or repeated."""
    if fault == "grainy":
        noise = torch.randn(len(pictures), 1, 32, 32, generator=torch.Generator().manual_seed(3))
        return (pictures + 12 * noise).round().clamp(0, 255).to(torch.uint8)
    if fault == "blurred":
        return gaussian_blur(pictures.float(), [7, 7], [1.2, 1.2]).round().to(torch.uint8)
    return pictures[torch.arange(len(pictures)) % 8]
