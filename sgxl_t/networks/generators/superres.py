"""Progressive growing (StyleGAN-XL, section 3.3): what a stage trains and what it takes from its stem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_xl import SynthesisXL


def stage_parameter_names(generator: Generator, *, train_input: bool = True) -> list[str]:
    """Names of the parameters that the generator's stage trains.

    Without super-resolution head: all. With heads: the newest one and, as in the original training, the
    Fourier input; train_input=False leaves the input as the stem learned it. Mapping and kept layers are
    frozen.
    """
    names = [name for name, _ in generator.named_parameters()]
    if not isinstance(generator.synthesis, SynthesisXL) or not generator.config.stylegan3.superres:
        return names
    prefixes = [f"synthesis.{name}." for name in generator.synthesis.head_layer_names]
    if train_input:
        prefixes.append("synthesis.input.")
    return [name for name in names if name.startswith(tuple(prefixes))]


def freeze_for_stage(generator: Generator, *, train_input: bool = True) -> None:
    """Sets requires_grad of every parameter by `stage_parameter_names`."""
    trained = set(stage_parameter_names(generator, train_input=train_input))
    for name, parameter in generator.named_parameters():
        parameter.requires_grad_(name in trained)


@torch.no_grad()
def load_stem(generator: Generator, stem: Generator, *, copy_input: bool = True) -> None:
    """Copies what `generator` keeps of `stem`: mapping with its averages, kept layers and the Fourier input.

    `generator` has one or more heads on top of the stem's configuration; its newest layers stay as they are.
    copy_input=False leaves the generator's own input, as the original training does when it starts again.
    """
    target, source = generator.synthesis, stem.synthesis
    if not isinstance(target, SynthesisXL) or not isinstance(source, SynthesisXL):
        raise ValueError(
            "only stylegan3 generators grow by heads: give a stem and a generator of that family"
        )
    if generator.condition != stem.condition:
        raise ValueError(
            f"the stem's condition {stem.condition} differs from {generator.condition}: "
            "train both on one condition"
        )
    if (generator.config.z_dim, target.w_dim) != (stem.config.z_dim, source.w_dim):
        raise ValueError(
            f"the stem's z_dim={stem.config.z_dim}, w_dim={source.w_dim} differ from "
            f"{generator.config.z_dim}, {target.w_dim}: use the stem's sizes"
        )
    kept = [layer for layer in source.layers() if not layer.spec.is_critically_sampled]
    wanted = [layer for layer in target.layers() if layer.spec.name not in target.head_layer_names]
    if [layer.spec for layer in kept] != [layer.spec for layer in wanted]:
        raise ValueError(
            f"the generator keeps layers {[layer.spec.name for layer in wanted]} but the stem has "
            f"{[layer.spec.name for layer in kept]}: use the stem's configuration plus one head"
        )
    for ours, theirs in zip(wanted, kept, strict=True):
        ours.load_state_dict(theirs.state_dict())
    generator.mapping.load_state_dict(stem.mapping.state_dict())
    if copy_input:
        target.input.load_state_dict(source.input.state_dict())


class StemView:
    """Images that a frozen stem makes of the latents which the generator grown on it saw last.

    The generator shares its lower layers with the stem. Forward hooks catch styles and features there, so
    that of the stem only the critically sampled layers, which the generator left out, have to run.
    """

    def __init__(self, stem: Generator) -> None:
        self.stem = stem.eval().requires_grad_(False)
        self._w: Tensor | None = None
        self._x: Tensor | None = None

    def watch(self, generator: Generator) -> None:
        """Hooks `generator`, which `load_stem` has filled and which keeps the shared layers frozen.

        Copies made of the generator afterwards carry the hooks as well: make them before.
        """
        target = generator.synthesis
        assert isinstance(target, SynthesisXL)
        kept = [layer for layer in target.layers() if layer.spec.name not in target.head_layer_names]
        generator.mapping.register_forward_hook(self._catch_styles)
        kept[-1].register_forward_hook(self._catch_features)

    @torch.no_grad()
    def images(self) -> Tensor:
        """float32 [N, C, r, r] at the stem's resolution, about [-1, 1], of the last pass of N latents."""
        assert self._x is not None, "the generator has not been watched in a pass"
        synthesis = self.stem.synthesis
        assert isinstance(synthesis, SynthesisXL)
        x, w = self._x, self._w
        for layer in synthesis.layers():
            if layer.spec.is_critically_sampled:
                x = layer(x, w)
        return x.float() * synthesis.config.stylegan3.output_scale

    def to(self, device: torch.device) -> StemView:
        """Moves the stem."""
        self.stem.to(device)
        return self

    def _catch_styles(self, module: nn.Module, inputs: Any, styles: Tensor) -> None:
        self._w = styles[:, 0].detach()  # one style for all layers, as latents are drawn in training

    def _catch_features(self, module: nn.Module, inputs: Any, features: Tensor) -> None:
        self._x = features.detach()
