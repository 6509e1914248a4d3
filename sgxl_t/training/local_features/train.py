"""Training of small local feature networks: a CNN, a vision transformer and a CLIP on own images.

Labels make classifiers, captions a CLIP (Radford et al. 2021, section 2.3) whose text encoder also
teaches the transformer; without either, two changed views of an image are matched with the same loss.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sgxl_t.datasets import ImageSource
from sgxl_t.files.whole import whole_file, whole_folder
from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallViT,
    save_local,
)
from sgxl_t.networks.frozen import load_clip
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.networks.text.vocab import UNKNOWN, WordTokenizer
from sgxl_t.networks.weights.stored import write_json
from sgxl_t.training.local_features.config import KINDS, FeaturesConfig
from sgxl_t.training.local_features.data import ImageSet, read_images
from sgxl_t.training.local_features.networks import new_clip, new_network

Network = SmallCNN | SmallViT
MAX_LOGIT_SCALE = math.log(100)
RETRIEVAL_CAPTIONS = 256


def train_features(
    source: ImageSource,
    dest: Path | str,
    *,
    kinds: Sequence[str] | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    config: FeaturesConfig | None = None,
) -> dict[str, Any]:
    """Trains local networks and writes each to `dest/KIND` as soon as it is done, and `dest/report.json`.

    kinds: of cnn, vit, clip; none trains all the data allows. The image tower of the CLIP is the CNN.
    Where the images have captions that say more than their labels, or a CLIP is asked for or already in
    `dest`, all networks learn from the captions (and from the labels, where there are some); else from the
    labels; else from changed views.
    seconds: wall time limit of each network; its schedule then ends early. The result is a function of data,
    seed and config unless a time limit strikes.
    Returns the report: per kind steps, seconds and what it gets right on images kept aside.
    """
    config = config or FeaturesConfig()
    dest = _writable(Path(dest))
    kinds = _checked_kinds(kinds, source.has_captions)
    if (seconds is not None and not 0 < seconds < math.inf) or (
        config.steps is not None and config.steps < 1
    ):
        raise ValueError(f"seconds={seconds}, steps={config.steps}: limits must be above zero")
    data = read_images(source, config, seed=seed, progress=progress, device=torch.device(device))
    stored = (dest / "clip" / "config.json").is_file()
    captions = data.captions is not None and ("clip" in kinds or stored or _tell_more(data, kinds))
    trainer = _Trainer(data, config, seconds, seed, progress, captions)
    meta = {
        "learnt_from": trainer.learnt_from,
        "data": source.fingerprint(),
        "classes": list(data.class_names),
        "seed": seed,
    }
    report: dict[str, Any] = {"pictures": len(data.images), **meta}
    with torch.random.fork_rng(devices=[]):  # torch draws first weights from its global stream only
        torch.manual_seed(seed)
        _train_kinds(trainer, kinds, dest, meta, report)
    with whole_file(dest / "report.json") as aside:
        write_json(aside, report)
    return report


def _tell_more(data: ImageSet, kinds: tuple[str, ...]) -> bool:
    """Whether a CNN learns more from captions than from labels; a transformer needs a CLIP made before."""
    return "cnn" in kinds and len(set(data.captions or ())) > len(data.class_names)


def _train_kinds(
    trainer: _Trainer, kinds: tuple[str, ...], dest: Path, meta: dict[str, Any], report: dict[str, Any]
) -> None:
    clip: ClipModel | None = None
    if trainer.captions and "clip" not in kinds and (dest / "clip" / "config.json").is_file():
        clip = load_clip(f"local:{dest / 'clip'}", text_only=True)
    if "cnn" in kinds or "clip" in kinds:
        cnn = trainer.new("cnn")
        assert isinstance(cnn, SmallCNN)
        if trainer.captions and clip is None:
            clip = trainer.new_clip(cnn)
        figures = trainer.fit(cnn, clip, "clip" if "clip" in kinds else "cnn")
        if "clip" in kinds:
            assert clip is not None
            with whole_folder(dest / "clip", mark="config.json") as folder:
                clip.save(folder, {**meta, **figures})
        if "cnn" in kinds:
            with whole_folder(dest / "cnn", mark="config.json") as folder:
                save_local(folder, cnn, {**meta, **figures})
        report.update({kind: figures for kind in ("cnn", "clip") if kind in kinds})
    if "vit" in kinds:
        vit = trainer.new("vit")
        report["vit"] = figures = trainer.fit(vit, clip, "vit")
        with whole_folder(dest / "vit", mark="config.json") as folder:
            save_local(folder, vit, {**meta, **figures})


def _checked_kinds(kinds: Sequence[str] | None, has_captions: bool) -> tuple[str, ...]:
    if kinds is None:
        return KINDS if has_captions else KINDS[:2]
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds={list(kinds)}: name one or more of {', '.join(KINDS)}")
    if "clip" in kinds and not has_captions:
        raise ValueError(
            "kinds names clip and the pictures have no captions: put a .txt file beside each picture, "
            "or leave clip out"
        )
    return tuple(kinds)


def _writable(dest: Path) -> Path:
    """The folder itself, made when missing; ValueError where nothing can be written, before any training."""
    try:
        dest.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=dest):
            pass
    except OSError as error:
        raise ValueError(f"{dest} cannot be written to ({error.strerror}): name another folder") from None
    return dest


@dataclass
class _Trainer:
    """What the trainings of one call share."""

    data: ImageSet
    config: FeaturesConfig
    seconds: float | None
    seed: int
    progress: bool
    captions: bool

    @property
    def learnt_from(self) -> str:
        """Words for the report."""
        labels = self.data.labels is not None
        return (
            "captions and labels"
            if self.captions and labels
            else ("captions" if self.captions else "labels" if labels else "views")
        )

    @property
    def contrastive(self) -> bool:
        """Whether a space shared with captions or views is learnt."""
        return self.captions or self.data.labels is None

    def new(self, kind: Literal["cnn", "vit"]) -> Network:
        """An untrained network for these images."""
        unused = self.captions and self.config.label_weight == 0
        network = new_network(
            kind,
            self.config,
            resolution=self.data.resolution,
            classes=0 if unused else len(self.data.class_names),
            contrastive=self.contrastive,
        )
        return network.to(self.data.images.device)

    def new_clip(self, cnn: SmallCNN) -> ClipModel:
        """An untrained CLIP around the CNN, with the words of the captions."""
        assert self.data.captions is not None
        tokenizer = WordTokenizer.build(self.data.captions)
        clip = new_clip(tokenizer, tokenizer.vocab_size, self.config, cnn)
        return clip.to(self.data.images.device)

    def fit(self, network: Network, clip: ClipModel | None, name: str) -> dict[str, Any]:
        """Trains the network, and the text encoder with it where that takes gradients; returns figures."""
        rng = torch.Generator().manual_seed(self.seed)
        text = _Text(clip, self.data, self.config, rng) if clip is not None and self.captions else None
        scale = text.scale if text is not None else _new_scale(self.data.images.device)
        module = clip if text is not None and text.learns and clip is not None else network
        batch = self.config.batch if self.contrastive else self.config.batch * 2 // 3
        batch = min(batch, len(self.data.train))
        kind = "vit" if isinstance(network, SmallViT) else "cnn"
        total = self.config.steps or max(self.config.images(kind, self.contrastive) // batch, 1)
        optimizer = _optimizer([module, network], scale, self.config)
        module.train()
        network.train()
        began, done, index_batches = time.monotonic(), 0, self.data.index_batches(batch, rng)
        with tqdm(total=total, desc=name, unit="step", disable=not self.progress, leave=False) as bar:
            while (share := self._share(done, total, began)) < 1:
                loss = self._loss(network, text, scale, next(index_batches), rng)
                _step(optimizer, loss, self.config.lr * one_cycle(share))
                scale.data.clamp_(0, MAX_LOGIT_SCALE)
                done += 1
                bar.update()
        elapsed = time.monotonic() - began
        for trained in (module, network):
            trained.eval().requires_grad_(False)
        figures = {
            "steps": done,
            "seconds": round(elapsed, 2),
            "images_per_second": round(done * batch / elapsed, 1),
        }
        return {**figures, **measure(network, self.data, clip if text is not None else None)}

    def _share(self, done: int, total: int, began: float) -> float:
        """Part of the training that is over, by steps or by the clock."""
        clock = (time.monotonic() - began) / self.seconds if self.seconds is not None and done else 0.0
        return max(done / total, clock)

    def _loss(
        self, network: Network, text: _Text | None, scale: Tensor, index: Tensor, rng: torch.Generator
    ) -> Tensor:
        data = self.data
        if not self.contrastive:
            assert data.labels is not None
            return F.cross_entropy(
                network.forward_logits(data.shifted(index, rng, self.config.noise)),
                data.labels[index],
            )
        match = open_clip.ClipLoss()
        if text is None:
            both = network(torch.cat([data.view(index, rng), data.view(index, rng)]))
            first, second = F.normalize(both, dim=-1).chunk(2)
            return match(first, second, scale.exp())
        pooled = network.forward_pooled(data.shifted(index, rng, self.config.noise))
        assert network.projection is not None
        loss = match(F.normalize(network.projection(pooled), dim=-1), text(index), scale.exp())
        if network.classifier is not None and data.labels is not None:
            labels = F.cross_entropy(network.classifier(pooled), data.labels[index])
            loss = loss + self.config.label_weight * labels
        return loss


class _Text:
    """Features of the pictures' captions: through a tower that learns, or computed once from a frozen one."""

    def __init__(self, clip: ClipModel, data: ImageSet, config: FeaturesConfig, rng: torch.Generator) -> None:
        assert data.captions is not None
        self.clip, self.rng, self.unknown_share = clip, rng, config.unknown_share
        self.learns = any(parameter.requires_grad for parameter in clip.text_parameters())
        learnt: Any = clip.model.logit_scale
        self.scale: nn.Parameter = learnt if self.learns else _new_scale(data.images.device)
        distinct = list(dict.fromkeys(data.captions))
        position = {caption: number for number, caption in enumerate(distinct)}
        self.numbers = torch.tensor([position[caption] for caption in data.captions])
        self.tokens = clip.tokenizer(distinct)
        self.features = None if self.learns else encode_all(clip, distinct)

    def __call__(self, index: Tensor) -> Tensor:
        """Unit vectors [N, dim] of the captions of these images."""
        numbers = self.numbers[index]
        if self.features is not None:
            return self.features[numbers]
        tokens = self.tokens[numbers]
        hidden = torch.rand(tokens.shape, generator=self.rng) < self.unknown_share
        first_word, end = UNKNOWN + 2, tokens.max()
        tokens = tokens.masked_fill(hidden & (tokens >= first_word) & (tokens < end), UNKNOWN)
        return self.clip.encode_tokens(tokens.to(self.clip.mean.device))


@torch.no_grad()
def encode_all(clip: ClipModel, captions: Sequence[str], batch: int = 512) -> Tensor:
    """Unit vectors [N, dim] of many captions."""
    return torch.cat([clip.encode_text(captions[i : i + batch]) for i in range(0, len(captions), batch)])


@torch.no_grad()
def measure(network: Network, data: ImageSet, clip: ClipModel | None) -> dict[str, Any]:
    """Shares of held-out images whose label is found, and whose caption is found among distinct others."""
    figures: dict[str, Any] = {"held_out": len(data.held_out)}
    if not len(data.held_out):
        return figures
    pooled = torch.cat([network.forward_pooled(data.plain(part)) for part in data.held_out.split(256)])
    if network.classifier is not None and data.labels is not None:
        right = network.classifier(pooled).argmax(1) == data.labels[data.held_out]
        figures["accuracy"] = round(right.float().mean().item(), 4)
    if network.projection is not None and clip is not None and data.captions is not None:
        chosen: dict[str, int] = {}
        for index in data.held_out.tolist():
            chosen.setdefault(data.captions[index], index)
        names = list(chosen)[:RETRIEVAL_CAPTIONS]
        # Held-out images are the first ones, so an index is also a row of `pooled`.
        images = network.projection(pooled[[chosen[name] for name in names]])
        found = (images @ encode_all(clip, names).T).argmax(1).cpu() == torch.arange(len(names))
        figures |= {"retrieval_at_1": round(found.float().mean().item(), 4), "retrieval_captions": len(names)}
    elif network.projection is not None:
        figures |= _match_views(network, data)
    return figures


def _match_views(network: Network, data: ImageSet) -> dict[str, Any]:
    index, rng = data.held_out[:RETRIEVAL_CAPTIONS], torch.Generator().manual_seed(0)
    first, second = (F.normalize(network(data.view(index, rng)), dim=-1) for _ in range(2))
    found = (first @ second.T).argmax(1).cpu() == torch.arange(len(index))
    return {"view_match_at_1": round(found.float().mean().item(), 4)}


def one_cycle(share: float, warmup: float = 0.2) -> float:
    """Learning rate over its highest value: up over the first fifth, then down to zero, both as cosines."""
    if share < warmup:
        return 0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * share / warmup))
    return 0.5 + 0.5 * math.cos(math.pi * min((share - warmup) / (1 - warmup), 1.0))


def _new_scale(device: torch.device) -> nn.Parameter:
    """Logarithm of the contrastive temperature's inverse, CLIP's first value."""
    return nn.Parameter(torch.tensor(math.log(1 / 0.07), device=device))


def _optimizer(
    modules: Sequence[nn.Module], scale: nn.Parameter, config: FeaturesConfig
) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not biases, norms and the scale."""
    unique = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
    unique[id(scale)] = scale
    decayed = [p for p in unique.values() if p.ndim > 1]
    free = [p for p in unique.values() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
