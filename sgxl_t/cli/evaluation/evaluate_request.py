"""What `sgxl-t evaluate` was asked for, opened and checked before the first image is made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from sgxl_t.cli.evaluation.evaluate_data import RealData
from sgxl_t.cli.evaluation.evaluate_options import EvaluateOptions, named_values
from sgxl_t.cli.evaluation.evaluate_prompts import Prompts, prompts_of
from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.files.cache import cache_folder
from sgxl_t.files.content import short_hash
from sgxl_t.files.lock import lock_beside, locked
from sgxl_t.files.terminal import say, visible
from sgxl_t.metrics.coco import CocoReal, describe_resize
from sgxl_t.metrics.curve import PSIS
from sgxl_t.metrics.features import KNOWN
from sgxl_t.metrics.features.extractor_cache import CLIP, ExtractorCache
from sgxl_t.metrics.generated import (
    CLASS_SAMPLING,
    ClassSampling,
    GeneratedImages,
    GeneratorImages,
)
from sgxl_t.metrics.processes import Processes
from sgxl_t.metrics.protocol import MetricSpec, parse_metrics
from sgxl_t.metrics.real_cache import RealCache
from sgxl_t.metrics.results import ResultEntry, check_comparable, make_entry, read_results
from sgxl_t.metrics.runner import MetricResult, RealByResolution, check_request, evaluate
from sgxl_t.metrics.stored_images import StoredImages
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.model_io.model_hash import model_hash
from sgxl_t.model_io.named_model import named_folder
from sgxl_t.model_io.run_model import model_in
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.device import choose_device
from sgxl_t.sampling.asked_numbers import check_seeds, parse_psis
from sgxl_t.sampling.output.image_files import check_writable

RESULTS = (".jsonl", ".json")
CAPTIONS_READ = 64
"""Captions looked at for their length where each costs an image to be read."""


@dataclass(frozen=True)
class LoadedModel:
    """A model to be measured. facts: what its results state about it."""

    generator: Generator
    condition: Condition
    facts: dict[str, Any]


Target = LoadedModel | StoredImages


@dataclass
class Request:
    """Everything that is measured. known: entries of results files; folder: keeps unfinished work."""

    options: EvaluateOptions
    targets: list[Target]
    known: list[ResultEntry]
    specs: list[MetricSpec]
    psis: list[float]
    prompts: Prompts | None
    data: RealData
    extractors: ExtractorCache
    processes: Processes
    folder: Path
    cache: RealCache

    def measure(self, number: int, psi: float, seed: int) -> list[ResultEntry]:
        """Entries of all metrics of one target, on every process."""
        generated, reals = self.processes.agree(lambda: self._both(number, psi, seed))
        self._keep_captions(generated)
        results = evaluate(
            generated,
            self.specs,
            reals,
            self.extractors,
            processes=self.processes,
            cache=self.cache,
            batch_size=self.options.batch_size,
            folder=self.folder / f"{number}-{psi:g}-{seed}",
        )
        broken = next((result for result in results if result.value != result.value), None)
        if broken is not None:
            raise ValueError(f"{broken.metric} of {generated.describe()['model']} is NaN: {broken.note}")
        return [entry_of(result, generated, reals) for result in results]

    def check(self) -> None:
        """Raises ValueError, before the work, for what cannot be measured or not stand in one table."""
        planned = []
        for number in range(len(self.targets)):
            generated, reals = self._both(number, self.psis[0], self.options.seed)
            check_request(generated, self.specs, reals, self.extractors)
            self._note_cut_captions(generated)
            for spec in self.specs:
                real = reals.get(spec.resolution)
                part = "_precision" if spec.reduction == "precision_recall" else ""
                n_real = real.count(spec.n_real) if real is not None and spec.needs_real else 0
                info = self.extractors.info(spec)
                result = MetricResult(spec.name + part, 0.0, None, "", spec, n_real, info)
                planned.append(entry_of(result, generated, reals))
        check_comparable([*self.known, *planned])

    def summary(self) -> list[str]:
        """What was rejected, not used or repaired of images and data, a line each."""
        stored = [target for target in self.targets if isinstance(target, StoredImages)]
        lines = [f"{one.path}: {line}" for one in stored for line in one.files.rejects.summary()]
        return [visible(line) for line in (*lines, *self.data.summary())]

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
                with suppress(OSError):  # a folder that cannot be written keeps nothing to protect
                    held.enter_context(locked(lock_beside(self.folder), what, way_out))
                for path in filter(None, (self.options.csv_file, self.options.curve)):
                    what, way_out = f"{path} is being written", "wait, or name another file"
                    held.enter_context(locked(lock_beside(Path(path)), what, way_out))

            self.processes.agree(lambda: take() if self.processes.is_main else None)
            yield
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _both(self, number: int, psi: float, seed: int) -> tuple[GeneratedImages, RealByResolution]:
        """Generated images of one target and the real ones they are compared with."""
        generated = self._generated(self.targets[number], psi, seed)
        gray = isinstance(generated, GeneratorImages) and generated.generator.config.img_channels == 1
        return generated, self.data.reals(self.specs, generated.size, gray=gray)

    def _generated(self, target: Target, psi: float, seed: int) -> GeneratedImages:
        if isinstance(target, StoredImages):
            return target
        generator, condition = target.generator, target.condition
        generator.to(self.extractors.device)
        condition.to(self.extractors.device)
        prompts = self.prompts if condition.kind == "text" else None
        drawn = (condition.kind == "text" and prompts is None) or (
            condition.kind == "class" and self.options.class_sampling == "dataset"
        )
        return GeneratorImages(
            generator,
            condition,
            seed=seed,
            psi=psi,
            class_sampling=cast(ClassSampling, self.options.class_sampling),
            source=self.data.source((generator.img_resolution,) * 2) if drawn else None,
            captions=None if prompts is None else prompts.texts,
            facts=target.facts | ({} if prompts is None else {"prompts": prompts.hash}),
        )

    def _note_cut_captions(self, generated: GeneratedImages) -> None:
        """Says how many of the captions are longer than the model, or the CLIP that scores, reads."""
        if not isinstance(generated, GeneratorImages) or not isinstance(generated.condition, TextCondition):
            return
        count = max((spec.n_fake for spec in self.specs), default=0)
        annotations = generated.annotations
        if annotations is not None and not isinstance(annotations.source, ListedSource):
            count = min(count, CAPTIONS_READ)
        given = [generated.conditions([index])[0] for index in range(count)]
        scoring = [spec.extractor for spec in self.specs if spec.reduction == "clip_score"]
        readers = {name: self.extractors.clip(name).clip for name in scoring}
        for name, encoder in {"the model": generated.condition.encoder, **readers}.items():
            if self.processes.is_main and (note := encoder.cut_note(given)):
                say(f"note: {name}: {note}", err=True)

    def _keep_captions(self, generated: GeneratedImages) -> None:
        """Encodes a list of prompts by a published encoder once for all evaluations on this machine."""
        if not isinstance(generated, GeneratorImages) or not isinstance(generated.condition, TextCondition):
            return
        if generated.captions is not None and generated.condition.original.pretrained:
            count = max(spec.n_fake for spec in self.specs)
            generated.condition.cache(generated.captions[:count], cache_folder() / "captions")


def check_outputs(options: EvaluateOptions) -> None:
    """Raises ValueError where results could not be written; reads nothing large."""
    for path in options.output_files:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name a file")
        check_writable(path.parent)
    if options.json_path is not None and options.json_path.exists():
        read_results(options.json_path)
    if options.curve and not options.curve.endswith(".csv"):
        raise ValueError(f"{options.curve} does not end in .csv: name it {options.curve}.csv")


def open_request(options: EvaluateOptions, processes: Processes) -> Request:
    """Opens models, images and results; ValueError in one sentence for whatever cannot be measured."""
    _check_values(options)
    named = [name for name in options.targets if not _is_results(name)]
    paths = [str(model_in(name, quiet=not processes.is_main)) for name in named]
    psis = _psis(options)
    extractors, specs = _extractors(options)
    known = [entry for name in options.targets if _is_results(name) for entry in read_results(name)]
    specs = [extractors.named_by_weights(spec) for spec in specs] if paths else []
    _check_curve(options, specs, psis, paths)
    targets = [_open_target(name) for name in paths]
    models = [target for target in targets if isinstance(target, LoadedModel)]
    prompts = prompts_of(options, specs, processes, any_model=bool(models))
    if prompts is not None and not any(model.condition.kind == "text" for model in models):
        raise ValueError(
            f"--{'prompts' if options.coco is None else 'coco'} gives prompts and none of what is "
            "measured is a text model: leave it out"
        )
    _check_images(options, psis, paths)
    return Request(
        options=options,
        targets=targets,
        known=known,
        specs=specs,
        psis=psis,
        prompts=prompts,
        data=RealData(options.data, options.split, allow_pipe=options.allow_pipe),
        extractors=extractors,
        processes=processes,
        folder=_work_folder(options),
        cache=RealCache(Path(options.cache) if options.cache else cache_folder() / "real"),
    )


def entry_of(result: MetricResult, generated: GeneratedImages, reals: RealByResolution) -> ResultEntry:
    """The line of a result, with all that both sides state about themselves."""
    real = reals.get(result.spec.resolution)
    return make_entry(result, description(generated, result.spec, reals), real, generated.size)


def description(generated: GeneratedImages, spec: MetricSpec, reals: RealByResolution) -> dict[str, Any]:
    """What the generated images state about themselves and, on COCO, how both sides were resized."""
    found, real = generated.describe(), reals.get(spec.resolution)
    if spec.resolution is None or real is None or not isinstance(real.source, CocoReal):
        return found
    facts = real.source.describe()
    resized = describe_resize(generated.size[0], spec.resolution)
    return {**found, "crop": facts["crop"], "resize": facts["resize"], "fake_resize": resized}


def _check_values(options: EvaluateOptions) -> None:
    if not options.targets:
        raise ValueError("there is nothing to measure: name a model folder, such as RUN/best")
    if options.repeats < 1:
        raise ValueError(f"--repeats {options.repeats} measures nothing: use at least 1")
    if options.class_sampling not in CLASS_SAMPLING:
        raise ValueError(f"--class-sampling {options.class_sampling}: use {', '.join(CLASS_SAMPLING)}")
    check_seeds(options.seed)


def _extractors(options: EvaluateOptions) -> tuple[ExtractorCache, list[MetricSpec]]:
    """The metrics asked for and the weights that are named for them."""
    weights = named_values(options.weights, "--weights")
    sha256 = named_values(options.sha256, "--sha256")
    for option, given in (("--weights", weights), ("--sha256", sha256)):
        _check_names(given, option)
    extractors = ExtractorCache(device=_device(options.device), weights=weights, sha256=sha256)
    return extractors, parse_metrics(options.metrics, preset=options.preset, local=weights.get("local"))


def _is_results(name: str) -> bool:
    return Path(name).suffix in RESULTS and Path(name).is_file()


def _is_images(name: str) -> bool:
    path = Path(name)
    return (path.is_dir() and not (path / "config.json").is_file()) or (
        path.is_file() and path.suffix == ".zip"
    )


def _open_target(name: str) -> Target:
    if _is_images(name):
        return StoredImages(name)
    folder = named_folder(name)
    generator, condition, _ = load_model(folder)
    return LoadedModel(generator, condition, {"model": visible(name), "model_hash": model_hash(folder)})


def _psis(options: EvaluateOptions) -> list[float]:
    if options.curve and options.psi is None:
        return list(PSIS)
    return parse_psis(options.psi or "1")


def _check_images(options: EvaluateOptions, psis: list[float], paths: Sequence[str]) -> None:
    """Raises ValueError where images are given together with options that only models have."""
    images = [name for name in paths if _is_images(name)]
    if images and (psis != [1.0] or options.repeats > 1):
        raise ValueError(
            f"{images[0]} holds pictures, which have no psi and no seeds: leave both options out"
        )


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
    options: EvaluateOptions, specs: Sequence[MetricSpec], psis: list[float], paths: Sequence[str]
) -> None:
    kinds = {spec.reduction for spec in specs}
    if options.curve and (len(psis) < 2 or len(paths) != 1 or not {"frechet", "clip_score"} <= kinds):
        raise ValueError(
            "--curve draws a distance against the CLIP score of one model over several psi: name one model, "
            "--psi 1,0.8,0.6 and metrics such as fid10k,cs10k"
        )


def _work_folder(options: EvaluateOptions) -> Path:
    """Where unfinished work is kept, by what was asked for: beside the results, or in the cache."""
    asked = short_hash(os.getcwd(), json.dumps(options.measured))
    if options.json_path is not None:
        return options.json_path.with_name(options.json_path.name + ".partial") / asked
    return cache_folder() / "partial" / asked
