"""Centres for multi-modal truncation: k-means of w, stored beside the generator they were made with.

One average is a poor centre where styles form several groups, as those of all ImageNet classes do: between
the groups nothing looks like anything. Pulling each w to the nearest of many centres keeps what it shows and
makes it typical (Mokady et al. 2022, "Self-Distilled StyleGAN", section 3.3; used by StyleGAN-XL).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import parse_json
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.layers import normalize_2nd_moment
from sgxl_t.networks.weights.stored_tensors import opened
from sgxl_t.sampling.truncation.kmeans import kmeans

FILE = "centroids.safetensors"
PER_CLASS = 10
"""Centres per class unless another count is asked for; 10,000 for the classes of ImageNet."""
PER_CENTRE = 60
"""Draws of w per centre; 600,000 for 10,000 centres."""
MAX_CENTRES = 100_000
MAX_NUMBERS = MAX_CENTRES * 8192
"""Largest table of centres that is read: that many, of the widest styles."""
BATCH = 8192
AGAIN = "make it again with `sgxl-t centroids`"

By = Literal["all", "class"]


@dataclass(frozen=True)
class Centroids:
    """Centres of w: vectors float32 [K, F]; classes int64 [K], whose class each is, or None for any class.

    F is w_dim for StyleGAN-XL. StyleGAN-T appends the condition to w untouched, and F counts the part before.
    facts: how they were made (count, by, draws, seed, mean_square), as JSON values.
    """

    vectors: Tensor
    classes: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def nearest(self, w: Tensor, c: Tensor | None) -> Tensor:
        """The centre [N, F] closest to each w [N, F]; with classes, of those of its own class c [N]."""
        distances = torch.cdist(
            w.float(), self.vectors.to(w.device), compute_mode="donot_use_mm_for_euclid_dist"
        )
        if self.classes is not None:
            assert c is not None
            distances = distances.masked_fill(c[:, None] != self.classes.to(w.device), torch.inf)
        return self.vectors.to(w.device)[distances.argmin(dim=1)]


def free_width(generator: Generator) -> int:
    """Leading numbers of w that depend on z; in StyleGAN-T the condition itself follows them."""
    return generator.z_dim if isinstance(generator.mapping, MappingT) else generator.w_dim


def compute_centroids(
    generator: Generator,
    count: int | None = None,
    *,
    by: By = "all",
    draws: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Centroids:
    """K-means centres of w over all classes in equal shares, or of each class apart.

    count: centres in all, or per class with by="class"; None takes 10 per class, and 10 without classes.
    draws: samples of w behind all centres, or behind those of one class; None takes 60 per centre.
    The same model, arguments and device give the same centres. Raises ValueError for what cannot be had.
    """
    classes = _classes(generator, by)
    count, draws = _sizes(classes, count, by, draws)
    groups = [[one] for one in classes] if by == "class" else [classes]
    parts = []
    for number, group in enumerate(groups):
        points = _styles(generator, draws, group, seed + number)
        parts.append(kmeans(points, count, seed=seed + number, progress=progress and by == "all"))
    facts: dict[str, Any] = {"count": count, "by": by, "draws": draws, "seed": seed}
    facts["mean_square"] = sum(part.mean_square for part in parts) / len(parts)
    labels = torch.tensor(classes).repeat_interleave(count) if by == "class" else None
    return Centroids(torch.cat([part.centres for part in parts]), labels, facts)


def check_replaceable(
    folder: str | Path,
    generator: Generator,
    count: int | None = None,
    *,
    by: By = "all",
    draws: int | None = None,
    seed: int = 0,
) -> None:
    """Raises ValueError where a model folder has centres that fit it and were made with other settings.

    The settings are those of `compute_centroids`; equal ones give the same centres again.
    """
    count, draws = _sizes(_classes(generator, by), count, by, draws)
    try:
        stored = load_centroids(folder, generator)
    except ValueError:
        return  # broken, or of other weights: of no use to anybody
    wanted = {"count": count, "by": by, "draws": draws, "seed": seed}
    if stored is not None and any(stored.facts.get(name) != value for name, value in wanted.items()):
        made = ", ".join(f"{name} {stored.facts.get(name)}" for name in wanted)
        raise ValueError(
            f"{Path(folder) / FILE} is there already, made with other settings ({visible(made)}): keep "
            "it, or add --overwrite to replace it"
        )


def save_centroids(
    folder: str | Path, centroids: Centroids, generator: Generator, dtype: torch.dtype = torch.float32
) -> Path:
    """Writes centroids.safetensors into a model folder, whole or not at all; returns its path.

    dtype: what the folder's generator is stored in; the file names the mapping weights it belongs to.
    """
    folder = Path(folder)
    tensors = {"centroids": centroids.vectors}
    if centroids.classes is not None:
        tensors["classes"] = centroids.classes
    # One entry, because safetensors writes several in any order and equal centres should give equal bytes.
    about = json.dumps({"mapping": fingerprint(generator, dtype), "facts": dict(centroids.facts)})
    with whole_file(folder / FILE) as aside:
        write_tensors(aside, tensors, {"about": about})
    return folder / FILE


def load_centroids(folder: str | Path, generator: Generator) -> Centroids | None:
    """The centres stored in a model folder, None when there are none.

    They fit every generator with the same mapping weights, so those of a stem serve all stages grown from it.
    Raises ValueError for a file that is broken or belongs to other weights.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    with opened(path, AGAIN) as stored:
        if any(math.prod(stored.get_slice(name).get_shape()) > MAX_NUMBERS for name in stored.keys()):  # noqa: SIM118
            raise ValueError(f"{path} holds more than {MAX_NUMBERS:,} numbers: {AGAIN}")
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        about = parse_json((stored.metadata() or {}).get("about", "{}"), str(path), way_out=AGAIN)
    _check_stored(path, tensors, generator)
    mapping, facts = about.get("mapping"), about.get("facts")
    if mapping is None or mapping.raw != fingerprint(generator):
        raise ValueError(f"{path} was made with other weights than the generator beside it: {AGAIN}")
    return Centroids(
        tensors["centroids"].float(), tensors.get("classes"), {} if facts is None else facts.group()
    )


def fingerprint(generator: Generator, dtype: torch.dtype = torch.float32) -> str:
    """Sixteen hex digits of the mapping network's weights, after rounding to the type they are stored in."""
    digest = hashlib.sha256()
    for name, weight in sorted(generator.mapping.named_parameters()):
        digest.update(name.encode() + weight.detach().cpu().to(dtype).float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_stored(path: Path, tensors: Mapping[str, Tensor], generator: Generator) -> None:
    vectors, classes = tensors.get("centroids"), tensors.get("classes")
    width, known = free_width(generator), generator.condition.num_classes
    fits = vectors is not None and vectors.ndim == 2 and vectors.shape[1] == width and len(vectors) > 0
    if not fits or set(tensors) - {"centroids", "classes"}:
        raise ValueError(f"{path} holds no centres of {width} numbers each: {AGAIN}")
    assert vectors is not None
    if not vectors.is_floating_point() or not bool(torch.isfinite(vectors).all()):
        raise ValueError(f"{path} holds centres that are not finite numbers: {AGAIN}")
    if classes is not None and not (
        generator.condition.kind == "class"
        and classes.shape == (len(vectors),)
        and classes.dtype == torch.int64
        and torch.equal(classes.unique(), torch.arange(known))
    ):
        raise ValueError(f"{path} does not give every one of {known} classes its centres: {AGAIN}")


def _sizes(classes: list[int], count: int | None, by: By, draws: int | None) -> tuple[int, int]:
    """Centres (of each class with by="class") and draws behind them; ValueError for what cannot be had."""
    count = count if count is not None else PER_CLASS * (1 if by == "class" else max(1, len(classes)))
    total = count * (len(classes) if by == "class" else 1)
    if not 1 <= total <= MAX_CENTRES:
        raise ValueError(f"{total} centres were asked for: use 1 to {MAX_CENTRES} in all")
    draws = PER_CENTRE * count if draws is None else draws
    if draws < count:
        raise ValueError(
            f"draws={draws} are too few for {count} centres: use at least {count}, or leave it out"
        )
    return count, draws


def _classes(generator: Generator, by: By) -> list[int]:
    """The classes that w depends on; empty where it depends on none."""
    kind, separate = generator.condition.kind, isinstance(generator.mapping, MappingT)
    if by not in ("all", "class"):
        raise ValueError(f"by={by!r} is unknown: use all or class")
    if by == "class" and (kind != "class" or separate):
        why = "styles do not depend on the class" if separate else f"it is a {kind} model"
        raise ValueError(f"the model has no styles per class, because {why}: use --by all")
    if kind == "text" and not separate:
        raise ValueError(
            "every prompt has styles of its own in this model, so they have no centres in common: "
            "truncate with --truncation class, which pulls to the prompt's average"
        )
    return list(range(generator.condition.num_classes)) if kind == "class" and not separate else []


@torch.no_grad()
def _styles(generator: Generator, count: int, classes: list[int], seed: int) -> Tensor:
    """float32 [count, F] on the generator's device: w of seeded latents, the classes in turn."""
    device = next(generator.parameters()).device
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    parts = []
    for start in range(0, count, BATCH):
        latents = z[start : start + BATCH].to(device)
        if isinstance(generator.mapping, MappingT):
            parts.append(generator.mapping.mlp(normalize_2nd_moment(latents)).float())
            continue
        turn = torch.arange(start, start + len(latents), device=device)
        c = torch.tensor(classes, device=device)[turn % len(classes)] if classes else None
        parts.append(generator.mapping(latents, c)[:, 0].float())
    return torch.cat(parts)
