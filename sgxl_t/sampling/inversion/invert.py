"""The whole of an inversion: start, W, W+, pivotal tuning; step by step, to be stored and gone on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.files.content import short_hash
from sgxl_t.model_io.model_folder import ModelInfo
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.ops.images import to_uint8
from sgxl_t.sampling.given import Source
from sgxl_t.sampling.inversion.encoder import Encoder, load_encoder
from sgxl_t.sampling.inversion.losses import open_features
from sgxl_t.sampling.inversion.optimise import RATES, Goal, LatentSearch, Step
from sgxl_t.sampling.inversion.photos import Photo, read_photos, targets
from sgxl_t.sampling.inversion.pivotal import PivotalTuning
from sgxl_t.sampling.inversion.settings import InversionSettings
from sgxl_t.sampling.inversion.start import Start, choices, encoded_start, nearest_start
from sgxl_t.sampling.inversion.state import Stored
from sgxl_t.sampling.inversion.tuned import Tuned
from sgxl_t.sampling.latents import Latents

log = logging.getLogger(__name__)

FRAMES, FRAME_SIDE = 60, 256
"""Pictures of the way that are kept for a film, and their largest side."""


@dataclass
class History:
    """What every step saw: its phase, losses and PSNR of every photograph; and pictures of the way."""

    phases: list[str] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    psnr: list[list[float]] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)
    """uint8 [N, C, S, S] each."""


@dataclass(frozen=True)
class Inverted:
    """What was found for N photographs.

    latents: a row each. images: uint8 [N, C, R, R], as the tuned generator makes them where there is one.
    psnr: dB of these. stages: uint8 images by the name of what they show (start, w, w+, pti), and
    stage_psnr their dB. tuned: None without pivotal tuning. features: of the loss. starts: in words.
    """

    photos: list[Photo]
    latents: Latents
    images: Tensor
    psnr: list[float]
    stages: dict[str, Tensor]
    stage_psnr: dict[str, list[float]]
    tuned: Tuned | None
    features: str
    starts: list[str]
    history: History


class Inversion:
    """Photographs on their way into the latents of one model.

    `advance` makes one step and says where it stood, until it says None; `state` and `load_state` carry it
    over to another process after any step; `result` gives the best so far.
    """

    def __init__(
        self,
        source: Source,
        info: ModelInfo | None,
        photos: Sequence[Photo],
        asked: Sequence[Any],
        settings: InversionSettings,
        *,
        film: bool = False,
    ) -> None:
        """asked: conditions as resolved, one for all or one each; [] finds them. film: keep `FRAMES`."""
        self.source, self.info, self.photos = source, info, list(photos)
        self.generator, self.settings, self.film = source.generator, settings, film
        self.notes: list[str] = []
        self.history = History()
        self.found: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}
        self._number = 0
        self._phase: LatentSearch | PivotalTuning | None = None
        self._phases = settings.phases()
        device = next(self.generator.parameters()).device
        features = open_features(settings.features, device)
        pixels = targets(self.photos, device)
        self._choices = choices(self.generator, source.condition, info, asked, pixels, settings)
        self._goal = Goal.of(pixels, features, settings.feature_weight, None, settings.batch_size)
        self._asked = list(asked)
        self._start: Start | None = None

    @property
    def key(self) -> str:
        """Sixteen hex digits over all that decides what comes out."""
        photos = [(photo.name, photo.digest) for photo in self.photos]
        asked = [photos, self._asked, asdict(self.settings), self.film, self._goal.features.name]
        return short_hash("inversion 2", self.source.model, json.dumps(asked))

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(steps for _, steps in self._phases)

    @property
    def step(self) -> int:
        """Done so far."""
        return len(self.history.phases)

    def begin(self) -> None:
        """Finds the start; `advance` does so where nobody did."""
        if self._start is None:
            self._set_start(self._find_start())

    def advance(self) -> Step | None:
        """One step; None when all are done."""
        self.begin()
        if self._number == len(self._phases):
            return None
        if self._phase is None:
            self._phase = self._make_phase()
        name, steps = self._phases[self._number]
        done = self._phase.advance()
        self._remember(name, done)
        if self._phase.step == steps:
            self._end_phase(self._phase)
        return done

    def result(self) -> Inverted:
        """The best so far."""
        self.begin()
        assert self._start is not None
        found, tuned = dict(self.found), self._tuned
        if isinstance(self._phase, LatentSearch):
            found[self._phase.name] = self._phase.best
        measured = {name: self._goal.measured(self.generator, ws) for name, ws in found.items()}
        ws = list(found.values())[-1]
        if tuned is not None:
            generator = tuned.applied(self.generator, self.source.model)
            measured["pti"] = self._goal.measured(generator, ws)
        last = list(measured.values())[-1]
        return Inverted(
            self.photos,
            self._latents(ws, last),
            to_uint8(last.images).cpu(),
            last.psnr.tolist(),
            {name: to_uint8(one.images).cpu() for name, one in measured.items()},
            {name: one.psnr.tolist() for name, one in measured.items()},
            tuned,
            self._goal.features.name,
            self._start.how,
            self.history,
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON values and tensors that `load_state` goes on from."""
        self.begin()
        assert self._start is not None
        about = {
            "key": self.key,
            "phase": self._number,
            "step": 0 if self._phase is None else self._phase.step,
            "phases": self.history.phases,
            "conditions": self._start.conditions,
            "how": self._start.how,
            "found": list(self.found),
            "frames": len(self.history.frames),
        }
        tensors = {f"found.{name}": ws for name, ws in self.found.items()}
        if self.history.phases:
            tensors |= {"losses": torch.tensor(self.history.losses), "psnr": torch.tensor(self.history.psnr)}
        tensors |= {f"frame.{number}": frame for number, frame in enumerate(self.history.frames)}
        if self._phase is not None:
            tensors |= {f"now.{name}": one for name, one in self._phase.state().items()}
        if self._changes:
            tensors |= {f"change.{name}": one for name, one in self._changes.items()}
        return about, tensors

    def load_state(self, stored: Stored) -> None:
        """Goes on from a state; ValueError where it is of another request."""
        about, tensors = stored.about, stored.tensors
        if about["key"].text(64) != self.key:
            raise ValueError("the state is of another inversion: remove it to begin anew")
        device = self._goal.photos.device
        conditions = [one.raw for one in about["conditions"].rows(len(self.photos))]
        how = [one.text() for one in about["how"].rows(len(self.photos))]
        names = [one.text() for one in about["found"].rows(4)]
        self.found = {name: tensors[f"found.{name}"].to(device) for name in names}
        start = Start(self.found["start"][:, 0], conditions, how, self._conditioning(conditions))
        self._set_start(start)
        self.history = History([one.text() for one in about["phases"].rows(10**6)])
        if self.history.phases:
            self.history.losses, self.history.psnr = tensors["losses"].tolist(), tensors["psnr"].tolist()
        frames = about["frames"].integer(0, FRAMES + 2)
        self.history.frames = [tensors[f"frame.{number}"] for number in range(frames)]
        self._number = about["phase"].integer(0, len(self._phases))
        self._changes = _under("change.", tensors)
        now, step = _under("now.", tensors), about["step"].integer(0, 10**6)
        if now:
            self._phase = self._make_phase()
            self._phase.load_state(now, step)

    @property
    def _tuned(self) -> Tuned | None:
        changes = self._phase.changes() if isinstance(self._phase, PivotalTuning) else self._changes
        names = tuple(photo.name for photo in self.photos)
        return Tuned(changes, self.source.model, names).rounded() if changes else None

    def _find_start(self) -> Start:
        encoder = self._encoder
        if encoder is None or (self.generator.attends and not self._asked):
            return nearest_start(self.generator, self._choices, self._goal, self.settings)
        start = encoded_start(encoder, self._goal.photos)
        if not self._asked:
            return start
        conditions = self._asked * (len(self.photos) if len(self._asked) == 1 else 1)
        return Start(start.w, conditions, start.how, self._conditioning(conditions))

    @cached_property
    def _encoder(self) -> Encoder | None:
        if self.info is None or not self.settings.encoder:
            return None
        try:
            return load_encoder(self.info.folder, self.generator, self.source.model)
        except ValueError as error:
            self.notes.append(f"the model's encoder is not used: {error}")
            return None

    def _conditioning(self, conditions: Sequence[Any]) -> Conditioning:
        if not self.generator.attends:
            return Conditioning()
        pool = self._choices.pool
        return pool.conditioning([pool.conditions.index(one) for one in conditions])

    def _set_start(self, start: Start) -> None:
        self._start = start
        self.found.setdefault("start", start.w[:, None])
        goal = self._goal
        tokens = start.conditioning.tokens
        self._goal = Goal(goal.photos, goal.features, goal.embedded, goal.weight, tokens, goal.batch)

    def _make_phase(self) -> LatentSearch | PivotalTuning:
        name, steps = self._phases[self._number]
        ws = list(self.found.values())[-1]
        pool = self._choices.pool
        if name == "pti":
            return PivotalTuning(self.generator, self._goal, ws, pool, steps, self.settings.seed)
        ws = ws if name == "w" else ws.expand(-1, self.generator.num_ws, -1)
        assert self._start is not None
        rate = RATES["encoded w" if name == "w" and self._start.encoded else name]
        axes = torch.diag(pool.spread[1]) if self._encoder is None else self._encoder.axes.to(ws)
        return LatentSearch(self.generator, self._goal, ws, axes, name, steps, rate)

    def _end_phase(self, phase: LatentSearch | PivotalTuning) -> None:
        if isinstance(phase, LatentSearch):
            self.found[phase.name] = phase.finish()
        else:
            self._changes = phase.changes()
        self._phase, self._number = None, self._number + 1

    def _remember(self, name: str, done: Step) -> None:
        step = self.step
        self.history.phases.append(name)
        self.history.losses.append(done.losses.tolist())
        self.history.psnr.append(done.psnr.tolist())
        if self.film and step * FRAMES // self.steps != (step - 1) * FRAMES // self.steps:
            images, side = done.images, min(done.images.shape[-1], FRAME_SIDE)
            if side != images.shape[-1]:
                images = F.interpolate(images, size=(side, side), mode="area")
            self.history.frames.append(to_uint8(images).cpu())

    def _latents(self, ws: Tensor, last: Step) -> Latents:
        assert self._start is not None
        made = [
            {"photo": photo.name, "photo_hash": photo.digest, "psnr": round(ratio, 2), "start": how}
            for photo, ratio, how in zip(self.photos, last.psnr.tolist(), self._start.how, strict=True)
        ]
        ws = ws.expand(-1, self.generator.num_ws, -1)
        names = [photo.name for photo in self.photos]
        return Latents(ws, names, self._start.conditions, made=made, model=self.source.model)


def invert_photos(
    source: Source,
    info: ModelInfo | None,
    photos: Sequence[Any],
    asked: Sequence[Any],
    *,
    progress: Callable[[Inversion, Step], None] | None = None,
    **settings: Any,
) -> Inverted:
    """The whole inversion of photographs, see `read_photos`; what had to be left out is said in the log.

    asked: as `Inversion` takes it. settings: those of `InversionSettings`. progress: called after every step.
    """
    chosen = InversionSettings(**settings)
    config = source.generator.config
    read = read_photos(photos, config.img_resolution, config.img_channels)
    inversion = Inversion(source, info, read, asked, chosen)
    run_inversion(inversion, progress=progress)
    for note in inversion.notes:
        log.warning("%s", note)
    return inversion.result()


def run_inversion(
    inversion: Inversion,
    *,
    store: Callable[[Inversion], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Inversion, Step], None] | None = None,
) -> bool:
    """All steps that are left; whether it came to its end, which `stop` may prevent after any step.

    store: called by the clock and at a stop, to keep what was reached. progress: called after every step.
    """
    import time

    latest = time.monotonic()
    inversion.begin()
    while not stop():
        done = inversion.advance()
        if done is None:
            return True
        if progress is not None:
            progress(inversion, done)
        if store is not None and time.monotonic() - latest > STORE_SECONDS:
            store(inversion)
            latest = time.monotonic()
    if store is not None:
        store(inversion)
    return False


STORE_SECONDS = 30.0
"""A kill that nobody announces costs no more than that."""


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
