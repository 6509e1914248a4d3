"""Latents that a caller gives instead of seeds: z, w, ws, torch's generators; and specs as latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.random import latents as latents_of_seeds
from sgxl_t.sampling.asked_numbers import spread_psi
from sgxl_t.sampling.latents import Latents, latent_specs, open_rows
from sgxl_t.sampling.prompt_cache import PromptCache
from sgxl_t.sampling.sample_spec import AnySpec, InterpolationFrame, LatentSpec, MovedFrame, SampleSpec, Specs
from sgxl_t.sampling.styles import spec_styles, styles
from sgxl_t.sampling.truncation.truncation import Truncation

BATCH = 256
"""Rows whose styles are computed at a time."""

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class Given:
    """What a call gives in place of seeds; at most one of them.

    generators: torch's, one or a list. z: [N, z_dim]. w: [N, w_dim]. ws: [N, num_ws, w_dim], Latents, or a
    file of them with or without rows, such as photos.safetensors:0-2.
    """

    generators: Generators | None = None
    z: Any = None
    w: Any = None
    ws: Any = None

    def check(self, *, seeded: bool) -> None:
        """ValueError for several at once. seeded: whether seeds were asked for as well."""
        names = {"generator": self.generators, "z": self.z, "w": self.w, "ws": self.ws}
        found = [name for name, value in names.items() if value is not None] + ["seeds"] * seeded
        if len(found) > 1:
            raise ValueError(f"{' and '.join(found)} say twice what to draw from: give one of them")

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return not all(value is None for value in (self.generators, self.z, self.w, self.ws))


@dataclass(frozen=True)
class Source:
    """What latents are made with. model: hash of the generator's files, None where it lies nowhere."""

    generator: Generator
    prompts: PromptCache
    condition: Condition
    model: str | None


@torch.no_grad()
def latents_of(source: Source, specs: Specs, truncation: Truncation) -> Latents:
    """The latents of specs, with their truncation applied, a row each."""
    parts = [specs[first : first + BATCH] for first in range(0, len(specs), BATCH)]
    ws = [styles(source.generator, source.prompts, part, truncation).float().cpu() for part in parts]
    plain = [spec for spec in specs if isinstance(spec, SampleSpec) and spec.mix is None]
    z = None
    if len(plain) == len(specs):
        z = latents_of_seeds([spec.seed for spec in plain], source.generator.z_dim)
    return Latents(
        torch.cat(ws),
        [_name(spec, source.condition) for spec in specs],
        [_condition(spec) for spec in specs],
        [spec.psi for spec in specs],
        z,
        [_made(spec, source.condition) for spec in specs],
        source.model,
    )


@torch.no_grad()
def latents_of_z(
    source: Source, z: Tensor, specs: Sequence[SampleSpec], truncation: Truncation, *, each: bool
) -> Latents:
    """Latents of given z for the condition, psi and mix of specs, whose seeds mean nothing here.

    z: [M, z_dim]. each: M is the number of specs and row n belongs to spec n; otherwise every spec is made
    with every z, spec by spec.
    """
    wanted = [spec for spec in specs for _ in range(1 if each else len(z))]
    rows = z if each else z.repeat(len(specs), 1)
    parts = [slice(first, first + BATCH) for first in range(0, len(wanted), BATCH)]
    ws = [
        spec_styles(source.generator, source.prompts, wanted[part], truncation, rows[part]).float().cpu()
        for part in parts
    ]
    numbers = [number if each else number % len(z) for number in range(len(wanted))]
    labels = [spec.label(source.condition) for spec in wanted]
    return Latents(
        torch.cat(ws),
        [label if len(z) == 1 else f"{label}, z {row}" for label, row in zip(labels, numbers, strict=True)],
        [spec.condition for spec in wanted],
        [spec.psi for spec in wanted],
        rows if all(spec.mix is None for spec in specs) else None,
        [{"z": row} for row in numbers],
        source.model,
    )


def specs_of_draws(
    source: Source, given: Given, specs: Sequence[SampleSpec], truncation: Truncation
) -> list[LatentSpec]:
    """Specs of given z, or of the next draws of given generators, for the condition, psi and mix of specs.

    Every spec goes with every z, and takes the next draw of every generator.
    """
    z_dim = source.generator.z_dim
    if given.generators is None:
        return latent_specs(latents_of_z(source, checked_z(given.z, z_dim), specs, truncation, each=False))
    z = drawn(given.generators, len(specs), z_dim)
    specs = [spec for spec in specs for _ in range(len(z) // len(specs))]
    return latent_specs(latents_of_z(source, z, specs, truncation, each=True))


def specs_of_rows(
    source: Source, given: Given, conditions: Sequence[Any] | None, psi: float | Sequence[float]
) -> list[LatentSpec]:
    """Specs of given w or ws, pulled further by psi: one number for all, or one each; see `given_latents`."""
    latents = given_latents(source, given, conditions)
    psis = spread_psi(psi, len(latents), "rows of latents")
    return [replace(spec, further=further) for spec, further in zip(latent_specs(latents), psis, strict=True)]


def drawn(generators: Generators, count: int, z_dim: int) -> Tensor:
    """z [count * M, z_dim] of M generators in turn: every image has the next draw of its generator.

    A generator that was just seeded with n gives the latent of seed n.
    """
    listed: list[Any] = list(generators) if isinstance(generators, list | tuple) else [generators]
    if not listed or not all(isinstance(one, torch.Generator) for one in listed):
        raise ValueError(
            "generator takes a torch.Generator or a list of them, such as torch.Generator().manual_seed(3)"
        )
    return torch.stack(
        [torch.randn(z_dim, generator=one, device=one.device).cpu() for _ in range(count) for one in listed]
    )


def are_generators(seeds: Any) -> bool:
    """Whether what was given as seeds are torch's generators, one or a list."""
    listed = seeds if isinstance(seeds, list | tuple) else [seeds]
    return bool(listed) and all(isinstance(one, torch.Generator) for one in listed)


def checked_z(z: Any, z_dim: int) -> Tensor:
    """z as float32 [N, z_dim] on the CPU, from that or one row [z_dim]; ValueError otherwise."""
    return _checked(z, (z_dim,), "z", f"[N, {z_dim}]")


def given_latents(source: Source, given: Given, conditions: Sequence[Any] | None) -> Latents:
    """Latents of given w or ws.

    conditions: as resolved, one for all rows or one each; None leaves those that the latents bring.
    ValueError for another shape, numbers that are not finite, and latents of another model.
    """
    w, ws = given.w, given.ws
    num_ws, w_dim = source.generator.num_ws, source.generator.w_dim
    if isinstance(ws, Latents | str | Path):
        latents = ws if isinstance(ws, Latents) else open_rows(str(ws))[0]
        latents.check_fits(source.generator, source.model, str(ws) if isinstance(ws, str | Path) else "ws")
    else:
        rows = (
            _checked(w, (w_dim,), "w", f"[N, {w_dim}]")[:, None].expand(-1, num_ws, -1)
            if ws is None
            else _checked(ws, (num_ws, w_dim), "ws", f"[N, {num_ws}, {w_dim}]")
        )
        word = "w" if ws is None else "ws"
        names = [f"{word} {row}" for row in range(len(rows))]
        latents = Latents(rows.contiguous(), names, model=source.model)
    if conditions is None:
        return latents
    if len(conditions) not in (1, len(latents)):
        raise ValueError(
            f"{len(conditions)} conditions came with {len(latents)} rows of latents: give one for all, or "
            "one each"
        )
    return replace(latents, conditions=list(conditions) * (len(latents) if len(conditions) == 1 else 1))


def _checked(values: Any, inner: tuple[int, ...], word: str, shape: str) -> Tensor:
    try:
        tensor = torch.as_tensor(values).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{word} of type {type(values).__name__} is no tensor: give floats {shape}"
        ) from None
    tensor = tensor[None] if tensor.shape == inner else tensor
    if tensor.shape[1:] != inner or len(tensor) == 0:
        raise ValueError(f"{word} of shape {list(tensor.shape)} does not fit: the model takes {shape}")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{word} holds numbers that are not finite: give floats {shape}")
    return tensor


def _condition(spec: AnySpec) -> Any:
    """The prompt or class of a row; None between two of them."""
    if isinstance(spec, MovedFrame):
        return spec.spec.condition
    if not isinstance(spec, InterpolationFrame):
        return spec.condition
    ends = spec.first.condition, spec.last.condition
    return ends[0] if ends[0] == ends[1] else None


def _name(spec: AnySpec, condition: Condition) -> str:
    """What a row is called."""
    parts = [spec.label(condition)]
    if isinstance(spec, SampleSpec):
        parts.append(f"seed {spec.seed}")
        parts += [] if spec.mix is None else [f"mixed with {condition.label(spec.mix.condition)}"]
    if isinstance(spec, InterpolationFrame) and spec.share not in (0, 1):
        parts.append(f"share {spec.share:.3g}")
    if isinstance(spec, SampleSpec) and spec.psi != 1:
        parts.append(f"psi {spec.psi:g}")
    return ", ".join(parts)


def _made(spec: AnySpec, condition: Condition) -> dict[str, Any]:
    """What a row was made of, as JSON values."""
    if isinstance(spec, InterpolationFrame):
        ends = {"first": _made(spec.first, condition), "last": _made(spec.last, condition)}
        return {**ends, "share": spec.share}
    if isinstance(spec, MovedFrame):
        return _made(spec.spec, condition)
    if isinstance(spec, LatentSpec):
        return {"latents": spec.name, "row": spec.number, "psi": spec.further}
    made: dict[str, Any] = {"seed": spec.seed, "psi": spec.psi}
    if condition.kind != "none":
        made["prompt" if condition.kind == "text" else condition.kind] = spec.condition
    if spec.mix is not None:
        made["mixed"] = {"with": spec.mix.condition, "layers": list(spec.mix.layers)}
    return made
