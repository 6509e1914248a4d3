"""What `sgxl-t evaluate` was asked for, opened and checked before the first picture is made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sgxl_t.cli.evaluation.evaluate_prompts import prompts_of
from sgxl_t.cli.pipes import shard_options
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.decode import Size
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.open import open_to_measure
from sgxl_t.files.cache import cache_folder
from sgxl_t.files.content import short_hash
from sgxl_t.files.lock import lock_beside, locked
from sgxl_t.files.terminal import say, visible
from sgxl_t.metrics.coco import CocoReal, fake_resize, open_coco
from sgxl_t.metrics.curve import PSIS
from sgxl_t.metrics.features import KNOWN
from sgxl_t.metrics.features.extractor_cache import CLIP, Shelf
from sgxl_t.metrics.generated import CLASS_SAMPLING, Fakes, GeneratorFakes, PictureFakes, model_hash
from sgxl_t.metrics.processes import Processes
from sgxl_t.metrics.protocol import MetricSpec, parse_metrics
from sgxl_t.metrics.real_cache import RealCache, RealSide
from sgxl_t.metrics.results import Record, check_comparable, make_record, read_records
from sgxl_t.metrics.runner import Result, check_request, evaluate
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.sampling.hub import hub_folder
from sgxl_t.sampling.output.image_files import check_writable
from sgxl_t.sampling.pipeline import choose_device
from sgxl_t.sampling.sample_spec import check_seeds, parse_psis

RESULTS = (".jsonl", ".json")
ASKED = (
    "targets",
    "data",
    "split",
    "metrics",
    "preset",
    "psi",
    "seed",
    "repeats",
    "class_sampling",
    "prompts",
    "coco",
    "coco_seed",
    "weights",
    "sha256",
)
"""The options that tell one evaluation from another."""
SPREAD = 64
"""Captions looked at where they stand in pictures that have to be read for them."""


@dataclass
class Request:
    """Everything that is measured. targets: models and pictures; known: records of results files."""

    targets: list[Any]
    known: list[Record]
    specs: list[MetricSpec]
    psis: list[float]
    options: dict[str, Any]
    data: Data
    shelf: Shelf
    processes: Processes
    captions: list[str] | None
    prompts_hash: str | None
    folder: Path
    cache: RealCache = field(default_factory=lambda: RealCache(None))

    def measure(self, number: int, psi: float, seed: int) -> list[Record]:
        """Records of all metrics of one target, on every process."""
        fakes, reals = self.processes.agree(lambda: self._sides(number, psi, seed))
        self._keep_captions(fakes)
        results = evaluate(
            fakes,
            self.specs,
            reals,
            self.shelf,
            processes=self.processes,
            cache=self.cache,
            batch_size=self.options["batch_size"],
            folder=self.folder / f"{number}-{psi:g}-{seed}",
        )
        broken = next((result for result in results if result.value != result.value), None)
        if broken is not None:
            raise ValueError(f"{broken.metric} of {fakes.describe()['model']} is NaN: {broken.note}")
        records = []
        for result in results:
            about, real = about_of(fakes, result.spec, reals), reals.get(result.spec.resolution)
            records.append(make_record(result, about, real, fakes.size))
        return records

    def check(self) -> None:
        """Raises ValueError, before the work, for what cannot be measured or not stand in one table."""
        planned = []
        for number in range(len(self.targets)):
            fakes, reals = self._sides(number, self.psis[0], self.options["seed"])
            check_request(fakes, self.specs, reals, self.shelf)
            self._note_cut_captions(fakes)
            for spec in self.specs:
                real = reals.get(spec.resolution)
                part = "_precision" if spec.reduction == "precision_recall" else ""
                n_real = real.count(spec.n_real) if real is not None and spec.needs_real else 0
                result = Result(spec.name + part, 0.0, None, "", spec, n_real, self.shelf.about(spec))
                planned.append(make_record(result, about_of(fakes, spec, reals), real, fakes.size))
        check_comparable([*self.known, *planned])

    def summary(self) -> list[str]:
        """What was rejected, not used or repaired of pictures and data, a line each."""
        pictures = [target for target in self.targets if isinstance(target, PictureFakes)]
        lines = [f"{one.path}: {line}" for one in pictures for line in one.files.rejects.summary()]
        return [visible(line) for line in (*lines, *self.data.summary())]

    def _note_cut_captions(self, fakes: Fakes) -> None:
        """Says how many of the captions are longer than the model, or the CLIP that scores, reads."""
        if not isinstance(fakes, GeneratorFakes) or not isinstance(fakes.condition, TextCondition):
            return
        count = max((spec.n_fake for spec in self.specs), default=0)
        if fakes.notes is not None and not isinstance(fakes.notes.source, ListedSource):
            count = min(count, SPREAD)  # each of these costs a picture to be read
        given = [fakes.conditions([index])[0] for index in range(count)]
        scoring = [spec.extractor for spec in self.specs if spec.reduction == "clip_score"]
        readers = {name: self.shelf.clip(name).clip for name in scoring}
        for name, encoder in {"the model": fakes.condition.encoder, **readers}.items():
            if self.processes.is_main and (note := encoder.cut_note(given)):
                say(f"note: {name}: {note}", err=True)

    def forget(self) -> None:
        """Removes unfinished work, which the results have replaced."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which no other process makes the same evaluation or writes the same table or curve.

        ValueError, in one sentence, where one does. Results that are added to a file take turns instead.
        """
        with ExitStack() as held:

            def take() -> None:
                what, way_out = "the same evaluation is being made", "wait for its result"
                with suppress(OSError):  # where nothing can be kept, nothing is shared
                    held.enter_context(locked(lock_beside(self.folder), what, way_out))
                for path in filter(None, (self.options["csv_file"], self.options["curve"])):
                    what, way_out = f"{path} is being written", "wait, or name another file"
                    held.enter_context(locked(lock_beside(Path(path)), what, way_out))

            self.processes.agree(lambda: take() if self.processes.is_main else None)
            yield
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _keep_captions(self, fakes: Fakes) -> None:
        """A published encoder reads a list of prompts once for all evaluations on this machine."""
        if not isinstance(fakes, GeneratorFakes) or not isinstance(fakes.condition, TextCondition):
            return
        if fakes.captions is not None and fakes.condition.original.pretrained:
            count = max(spec.n_fake for spec in self.specs)
            fakes.condition.cache(fakes.captions[:count], cache_folder() / "captions")

    def _sides(self, number: int, psi: float, seed: int) -> tuple[Fakes, dict[int | None, RealSide]]:
        fakes = self._fakes(self.targets[number], psi, seed)
        gray = isinstance(fakes, GeneratorFakes) and fakes.generator.config.img_channels == 1
        return fakes, self.data.reals(self.specs, fakes.size, gray=gray)

    def _fakes(self, target: Any, psi: float, seed: int) -> Fakes:
        if isinstance(target, PictureFakes):
            return target
        generator, condition, about = target
        generator.to(self.shelf.device)
        condition.to(self.shelf.device)
        captions = self.captions if condition.kind == "text" else None
        drawn = (condition.kind == "text" and captions is None) or (
            condition.kind == "class" and self.options["class_sampling"] == "dataset"
        )
        return GeneratorFakes(
            generator,
            condition,
            seed=seed,
            psi=psi,
            class_sampling=self.options["class_sampling"],
            source=self.data.source((generator.img_resolution,) * 2) if drawn else None,
            captions=captions,
            about={**about, **({"prompts": self.prompts_hash} if captions is not None else {})},
        )


class Data:
    """The real pictures at any size, each opened once."""

    def __init__(self, reference: str | None, split: str, *, allow_pipe: bool = False) -> None:
        self.reference, self.split, self.shards = reference, split, shard_options(allow_pipe)
        self._sources: dict[tuple[Size, bool], ImageSource] = {}
        self._reals: dict[tuple[Size, bool, bool], RealSide] = {}

    def source(self, size: Size, *, gray: bool = False) -> ImageSource | None:
        """The data set; None where none was named."""
        if self.reference is None:
            return None
        if (size, gray) not in self._sources:
            source = open_to_measure(self.reference, size, split=self.split, shards=self.shards)
            source.gray = gray
            self._sources[size, gray] = source
        return self._sources[size, gray]

    def reals(
        self, specs: Sequence[MetricSpec], size: Size, *, gray: bool = False
    ) -> dict[int | None, RealSide]:
        """Real sides by resolution of the metrics. size, gray: of the generated pictures."""
        if self.reference is None:
            return {}
        found: dict[int | None, RealSide] = {}
        for spec in specs:
            if spec.needs_real and spec.resolution not in found:
                side = spec.resolution
                found[side] = self._real(size if side is None else (side, side), side is not None, gray)
        return found

    def summary(self) -> list[str]:
        """What was rejected, not used or repaired, a line each."""
        opened = [*self._sources.values(), *(real.source for real in self._reals.values())]
        lines = (line for source in opened for line in source.rejects.summary())
        return [f"{self.reference}: {line}" for line in dict.fromkeys(lines)]

    def _real(self, size: Size, coco: bool, gray: bool) -> RealSide:
        if (size, coco, gray) not in self._reals:
            assert self.reference is not None
            source = open_coco(self.reference, size[0]) if coco else self.source(size, gray=gray)
            assert source is not None
            source.gray = gray
            name = self.reference if self.split == "train" else f"{self.reference} {self.split}"
            self._reals[size, coco, gray] = RealSide(source, visible(f"{name} in gray" if gray else name))
        return self._reals[size, coco, gray]


def check_outputs(options: dict[str, Any]) -> None:
    """Raises ValueError where results could not be written; reads nothing large."""
    for name in ("json_file", "csv_file", "curve"):
        path = options[name]
        if path and path != "-":
            if Path(path).is_dir():
                raise ValueError(f"{path} is a folder: name a file")
            check_writable(Path(path).parent)
    if options["json_file"] not in (None, "-") and Path(options["json_file"]).exists():
        read_records(options["json_file"])
    if options["curve"] and not options["curve"].endswith(".csv"):
        raise ValueError(f"{options['curve']} does not end in .csv: name it {options['curve']}.csv")


def open_request(options: dict[str, Any], processes: Processes) -> Request:
    """Opens models, pictures and results; ValueError in one sentence for whatever cannot be measured."""
    if not options["targets"]:
        raise ValueError("there is nothing to measure: name a model folder, such as RUN/best")
    if options["repeats"] < 1:
        raise ValueError(f"--repeats {options['repeats']} measures nothing: use at least 1")
    if options["class_sampling"] not in CLASS_SAMPLING:
        raise ValueError(f"--class-sampling {options['class_sampling']}: use {', '.join(CLASS_SAMPLING)}")
    check_seeds(options["seed"])
    psis = list(PSIS) if options["curve"] and options["psi"] is None else parse_psis(options["psi"] or "1")
    weights, sha256 = _pairs(options["weights"], "--weights"), _pairs(options["sha256"], "--sha256")
    _check_names(weights, "--weights")
    _check_names(sha256, "--sha256")
    shelf = Shelf(device=_device(options["device"]), weights=weights, sha256=sha256)
    specs = parse_metrics(options["metrics"], preset=options["preset"], local=weights.get("local"))
    known = [record for name in options["targets"] if _is_results(name) for record in read_records(name)]
    paths = [name for name in options["targets"] if not _is_results(name)]
    specs = [shelf.honest(spec) for spec in specs] if paths else []
    _check_curve(options, specs, psis, paths)
    targets = [_open_target(name) for name in paths]
    generated = any(not isinstance(target, PictureFakes) for target in targets)
    captions, prompts_hash = prompts_of(options, specs, processes, generated=generated)
    if captions is not None and not any(_reads_text(target) for target in targets):
        raise ValueError(
            f"--{'prompts' if options['coco'] is None else 'coco'} gives prompts and none of what is "
            "measured is a text model: leave it out"
        )
    return Request(
        targets=targets,
        known=known,
        specs=specs,
        psis=_fitting(psis, options, paths),
        options=options,
        data=Data(options["data"], options["split"], allow_pipe=options["allow_pipe"]),
        shelf=shelf,
        processes=processes,
        captions=captions,
        prompts_hash=prompts_hash,
        folder=_work_folder(options),
        cache=RealCache(Path(options["cache"]) if options["cache"] else cache_folder() / "real"),
    )


def _is_results(name: str) -> bool:
    return Path(name).suffix in RESULTS and Path(name).is_file()


def _is_pictures(name: str) -> bool:
    path = Path(name)
    return (path.is_dir() and not (path / "config.json").is_file()) or (
        path.is_file() and path.suffix == ".zip"
    )


def _open_target(name: str) -> Any:
    """Pictures, or a model as generator, condition and what its records say."""
    if (Path(name) / "config.yaml").is_file():
        raise ValueError(f"{name} is the folder of a run: name one of its models, {name}/best or {name}/last")
    if _is_pictures(name):
        return PictureFakes(name)
    folder = Path(name) if Path(name).exists() else hub_folder(name)
    generator, condition, _ = load_model(folder)
    return generator, condition, {"model": visible(name), "model_hash": model_hash(folder)}


def _reads_text(target: Any) -> bool:
    return not isinstance(target, PictureFakes) and target[1].kind == "text"


def about_of(fakes: Fakes, spec: MetricSpec, reals: dict[int | None, RealSide]) -> dict[str, Any]:
    """What the generated side says of itself and, on COCO, how both sides came to the resolution."""
    about, real = fakes.describe(), reals.get(spec.resolution)
    if spec.resolution is None or real is None or not isinstance(real.source, CocoReal):
        return about
    facts = real.source.describe()
    resized = fake_resize(fakes.size[0], spec.resolution)
    return {**about, "crop": facts["crop"], "resize": facts["resize"], "fake_resize": resized}


def _fitting(psis: list[float], options: dict[str, Any], paths: list[str]) -> list[float]:
    pictures = [name for name in paths if _is_pictures(name)]
    if pictures and (psis != [1.0] or options["repeats"] > 1):
        raise ValueError(
            f"{pictures[0]} holds pictures, which have no psi and no seeds: leave both options out"
        )
    return psis


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE options as a table."""
    found = dict(text.partition("=")[::2] for text in given)
    for name, value in found.items():
        if not name or not value:
            raise ValueError(f"{option} {name}: write NAME=VALUE, such as inception=inception.pth")
    return found


def _check_names(given: dict[str, str], option: str) -> None:
    """Raises ValueError for a name that no metric looks for weights under."""
    names = [*KNOWN, "local", "lpips", CLIP]
    for name in given:
        if name not in names and ":" not in name:
            raise ValueError(f"{option} {name}: no metric has weights of that name, use {', '.join(names)}")


def _device(name: str | None) -> torch.device:
    """The device asked for; of several processes each takes its own accelerator."""
    if name is None and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return choose_device(name)


def _check_curve(
    options: dict[str, Any], specs: Sequence[MetricSpec], psis: list[float], paths: list[str]
) -> None:
    kinds = {spec.reduction for spec in specs}
    if options["curve"] and (len(psis) < 2 or len(paths) != 1 or not {"frechet", "clip_score"} <= kinds):
        raise ValueError(
            "--curve draws a distance against the CLIP score of one model over several psi: name one model, "
            "--psi 1,0.8,0.6 and metrics such as fid10k,cs10k"
        )


def _work_folder(options: dict[str, Any]) -> Path:
    """Where unfinished work is kept, by what was asked for: beside the results, or in the cache."""
    asked = short_hash(os.getcwd(), json.dumps({name: options[name] for name in ASKED}))
    if options["json_file"] not in (None, "-"):
        path = Path(options["json_file"])
        return path.with_name(path.name + ".partial") / asked
    return cache_folder() / "partial" / asked
