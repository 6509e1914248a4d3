"""What is measured: operators, one layer, whole generators, with fixed inputs and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sgxl_t.bench.arithmetic import Work
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators import synthesis_xl
from sgxl_t.networks.generators.registry import build_generator, model_config
from sgxl_t.networks.generators.schedule_xl import LayerSpec, all_layers

CLASSES = ConditionSpec(kind="class", dim=320, num_classes=1000)
TEXT = ConditionSpec(kind="text", dim=768)
FIR_MODEL = "sgxl-imagenet-256"
"""Its layers have all the sizes that the operators are measured at."""


@dataclass
class Workload:
    """One call and everything it needs.

    call takes `maps` (cast to the dtype of the row), then `others`. weights get gradients together with all
    float inputs; constants (weights and buffers) do not count as memory. mixed: run below autocast, as a
    network is in mixed precision; an operator is handed maps of the dtype itself.
    """

    call: Callable[..., Tensor]
    maps: list[Tensor]
    others: list[Tensor]
    weights: list[Tensor] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    mixed: bool = False
    network: nn.Module | None = None
    """What is called, where that is a module."""
    known: Work | None = None
    """Arithmetic and traffic of one forward call; counted when wanted where nobody knows."""


def sizes(spec: LayerSpec) -> tuple[int, int, int]:
    """Sides of the map that enters the filtered leaky ReLU, of the enlarged one and of the result."""
    entering = spec.in_size + spec.kernel - 1
    return entering, entering * spec.up_factor + sum(spec.padding) - spec.up_taps + 1, spec.out_size


def conv_gflop(spec: LayerSpec, batch: int) -> float:
    """Arithmetic of the layer's convolution over its zero-padded input, computed directly."""
    weights = spec.in_channels * spec.out_channels * spec.kernel**2
    return 2 * batch * weights * sizes(spec)[0] ** 2 / 1e9


def filter_gflop(spec: LayerSpec, channels: int, batch: int) -> float:
    """Multiply-adds of polyphase filters: nothing inserted, nothing thrown away; separable unless radial."""
    side, mid, out = sizes(spec)
    enlarge = spec.up_taps / spec.up_factor * (mid * side + mid * mid) if spec.up_taps > 1 else 0
    reduce = spec.down_taps * (mid * out + out * out) if spec.down_taps > 1 else 0
    if spec.use_radial_filters:
        reduce = spec.down_taps**2 * out * out
    return 2 * batch * channels * (enlarge + reduce) / 1e9


def layer_of(wanted: tuple[int, int, int], channels: int) -> LayerSpec:
    """The layer of the ImageNet stages with these resolutions, with as many channels as asked."""
    stem, head = all_layers(model_config(FIR_MODEL))
    for spec in stem + head:
        if sizes(spec) == wanted and not spec.is_torgb and not spec.is_critically_sampled:
            return replace(spec, in_channels=channels, out_channels=channels)
    raise ValueError(f"{FIR_MODEL} has no layer with sides {wanted}: take those of one of its layers")


def _random(*shape: int, seed: int, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


@torch.no_grad()
def _liven(network: nn.Module) -> None:
    """Moves vectors of parameters off their first values, so that no branch counts for nothing.

    Residual branches start at 1e-5 and noise at 0: an error in them would not show.
    """
    rng = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.numel() == max(parameter.shape, default=1):
            drawn = torch.randn(parameter.shape, generator=rng)
            parameter.add_(0.1 * drawn.to(parameter.device))


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _of_network(network: nn.Module, device: torch.device, call: Callable[..., Tensor]) -> Workload:
    parameters: list[Tensor] = list(network.parameters())
    constants = [*parameters, *network.buffers()]
    return Workload(call, [], [], parameters, constants, mixed=True, network=network)


def filter_workload(
    wanted: tuple[int, int, int], channels: int, batch: int, device: torch.device
) -> Workload:
    """The filtered leaky ReLU alone."""
    spec = layer_of(wanted, channels)
    with _seeded():
        layer = synthesis_xl.SynthesisLayer(spec, 1).to(device)
    up, down = layer.up_filter, layer.down_filter
    constants = [taps for taps in (up, down) if taps is not None]

    def call(x: Tensor, b: Tensor) -> Tensor:
        # Looked up where the network does, so that the reference operators take its place there.
        return synthesis_xl.filtered_lrelu(x, up, down, b.to(x.dtype), layer.lrelu_spec)

    side, _, out = wanted
    x = _random(batch, channels, side, side, seed=0, device=device)
    b = 0.1 * _random(channels, seed=1, device=device)
    return Workload(
        call,
        [x],
        [b],
        constants=constants,
        known=Work(filter_gflop(spec, channels, batch), 2 * x.numel() * (1 + (out / side) ** 2) / 1e6),
    )


def conv_workload(side: int, channels: int, batch: int, device: torch.device) -> Workload:
    """The modulated 3x3 convolution alone."""
    weight = _random(channels, channels, 3, 3, seed=0, device=device)
    gain = torch.ones([], device=device)

    def call(x: Tensor, s: Tensor) -> Tensor:
        return synthesis_xl.modulated_conv_sg3(x, weight, s, padding=2, input_gain=gain)

    x = _random(batch, channels, side, side, seed=1, device=device)
    s = 1 + 0.5 * _random(batch, channels, seed=2, device=device)
    after = side + 2
    numbers = weight.numel() + batch * channels * (side**2 + after**2)
    known = Work(2 * batch * weight.numel() * after**2 / 1e9, 2 * numbers / 1e6)
    return Workload(call, [x], [s], [weight], [weight, gain], known=known)


def layer_workload(wanted: tuple[int, int, int], channels: int, batch: int, device: torch.device) -> Workload:
    """One layer of the generator: affine, convolution and filtered leaky ReLU."""
    spec = layer_of(wanted, channels)
    with _seeded():
        layer = synthesis_xl.SynthesisLayer(spec, 512).to(device)
    _liven(layer)
    work = _of_network(layer, device, layer)
    work.maps = [_random(batch, channels, spec.in_size, spec.in_size, seed=2, device=device)]
    work.others = [_random(batch, 512, seed=3, device=device)]
    return work


def generator_workload(model: str, batch: int, device: torch.device) -> Workload:
    """A whole generator: latents and conditions to images."""
    condition = CLASSES if model.startswith("sgxl") else TEXT
    generator = build_generator(model, condition, seed=0)
    _liven(generator)
    generator.to(device)
    z = _random(batch, generator.z_dim, seed=4, device=device)
    c = torch.arange(batch, device=device)
    if condition.kind == "text":
        c = nn.functional.normalize(_random(batch, condition.dim, seed=5, device=device), dim=1)
    work = _of_network(
        generator,
        device,
        lambda z, c: generator(z, c, noise_mode="const"),  # stored: alike in every run
    )
    work.others = [z, c]
    return work
