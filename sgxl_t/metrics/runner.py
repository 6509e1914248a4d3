"""Metrics of generated pictures: which features they need, one pass for all of them, and the numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.datasets.decode import Size
from sgxl_t.metrics.collect import Gathered, Need, collect
from sgxl_t.metrics.distances.equivariance import eqt, input_of
from sgxl_t.metrics.distances.feature_statistics import Moments
from sgxl_t.metrics.distances.frechet import covariance_root, frechet_from_moments
from sgxl_t.metrics.distances.inception_score import inception_score
from sgxl_t.metrics.distances.kernels import cmmd, kid, kid_full
from sgxl_t.metrics.distances.ppl import ppl
from sgxl_t.metrics.distances.prdc import prdc
from sgxl_t.metrics.features.extractor_cache import COSINE, About, Shelf
from sgxl_t.metrics.generated import Fakes, GeneratorFakes, shown_size
from sgxl_t.metrics.processes import NotFiniteError, Processes
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.metrics.real_cache import RealCache, RealSide

Reals = Mapping[int | None, RealSide]
"""The real side by evaluation resolution; None: that of the generated pictures."""


@dataclass(frozen=True)
class Result:
    """One number. value is NaN, and note says why, where features were not finite."""

    metric: str
    value: float
    std: float | None
    std_over: str
    spec: MetricSpec
    n_real: int
    about: About
    note: str = ""


def evaluate(
    fakes: Fakes,
    specs: Sequence[MetricSpec],
    reals: Reals,
    shelf: Shelf,
    *,
    processes: Processes | None = None,
    cache: RealCache | None = None,
    batch_size: int = 32,
    folder: Path | None = None,
    label: str = "generated",
) -> list[Result]:
    """All metrics from one pass over the generated pictures, equal on every process.

    reals: by resolution of the specs; may be empty where none compares with real pictures. cache: where
    features of real sides are kept. folder: keeps unfinished work; who has the results removes it.
    Requests that cannot be carried out raise ValueError before any picture is made. Features that are not
    finite give NaN with a note.
    """
    processes = processes or Processes()
    processes.agree(lambda: check_request(fakes, specs, reals, shelf))
    viewing = [spec for spec in specs if not spec.needs_generator]
    results: dict[str, list[Result]] = {}
    if viewing:
        job = _Job(fakes, viewing, reals, shelf, processes, cache or RealCache(None), batch_size, folder)
        results = job.run(label)
    for spec in specs:
        if spec.needs_generator:
            results[spec.name] = [_from_generator(fakes, spec, shelf, processes, batch_size)]
    return [result for spec in specs for result in results[spec.name]]


def check_request(fakes: Fakes, specs: Sequence[MetricSpec], reals: Reals, shelf: Shelf) -> None:
    """Raises ValueError for whatever would fail later; loads the extractors."""
    if not specs:
        raise ValueError("there is no metric to compute: name one, such as fid10k")
    for spec in specs:
        fakes.check_count(spec.n_fake)
        generated = isinstance(fakes, GeneratorFakes)
        if spec.needs_generator and not generated:
            raise ValueError(
                f"{spec.name} looks into a generator and pictures are given: name a model folder"
            )
        if spec.reduction in ("eqt_int", "eqt_frac"):
            input_of(fakes.generator)
        if spec.reduction == "clip_score" and not (generated and fakes.condition.kind == "text"):
            raise ValueError(f"{spec.name} compares pictures with their captions: name a text model")
        _check_size(fakes.size, spec)
        if spec.needs_real:
            if spec.resolution not in reals:
                raise ValueError(f"{spec.name} compares with real pictures and none are given: name --data")
            reals[spec.resolution].count(spec.n_real)
        shelf.about(spec)
        if not spec.needs_generator and not generated:
            side = spec.resolution
            _check_look(fakes.size if side is None else (side, side), spec, shelf)


def _check_size(size: Size, spec: MetricSpec) -> None:
    """Raises ValueError for pictures that cannot be brought to the size a metric is defined at."""
    if spec.resolution is None:
        return
    if size[0] != size[1]:
        raise ValueError(
            f"{spec.name} looks at squares of {spec.resolution} px and the pictures have {shown_size(size)}: "
            "crop them to squares with `sgxl-t prepare`, or leave it out"
        )
    if size[0] < spec.resolution:
        raise ValueError(
            f"pictures of {shown_size(size)} are smaller than the {spec.resolution} px that {spec.name} "
            "looks at: leave it out"
        )


def _check_look(size: Size, spec: MetricSpec, shelf: Shelf) -> None:
    """Raises ValueError where the network of a metric cannot take pictures of a size; most resize them."""
    try:
        shelf.extract(spec)(torch.zeros(1, 3, *size, dtype=torch.uint8), [0])
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise ValueError(
            f"{spec.extractor} cannot look at pictures of {shown_size(size)} ({reason}): bring them to "
            f"another size with `sgxl-t prepare`, or leave {spec.name} out"
        ) from None


class _Job:
    """One pass for metrics that look at pictures."""

    def __init__(
        self,
        fakes: Fakes,
        specs: Sequence[MetricSpec],
        reals: Reals,
        shelf: Shelf,
        processes: Processes,
        cache: RealCache,
        batch_size: int,
        folder: Path | None,
    ) -> None:
        self.fakes, self.specs, self.reals, self.shelf = fakes, specs, reals, shelf
        self.processes, self.cache, self.batch_size, self.folder = processes, cache, batch_size, folder
        self._roots: dict[tuple[Need, int], Tensor] = {}

    def run(self, label: str) -> dict[str, list[Result]]:
        """Results by name of the spec, on every process."""
        real = self._real_sides()
        needs = list(dict.fromkeys(self.fake_need(spec) for spec in self.specs))
        captions = self.fakes.conditions if isinstance(self.fakes, GeneratorFakes) else None
        broken = ""
        try:
            fake = self._collect(self.fakes.pictures, needs, self.fakes.describe(), label, captions)
        except NotFiniteError as error:
            fake, broken = {}, str(error)
        return self.processes.from_main(
            lambda: {spec.name: self._results(spec, real, fake, broken) for spec in self.specs}
        )

    def fake_need(self, spec: MetricSpec) -> Need:
        """What a metric needs of the generated side."""
        if spec.reduction == "clip_score":
            return Need(f"captions {spec.extractor}", COSINE, "rows", spec.n_fake, spec.resolution)
        kind = "moments" if spec.reduction == "frechet" else "rows"
        return Need(spec.extractor, spec.output, kind, spec.n_fake, spec.resolution)

    def real_need(self, spec: MetricSpec) -> Need:
        """What it needs of the real side, whose pictures have the right size already."""
        count = self.reals[spec.resolution].count(spec.n_real)
        return replace(self.fake_need(spec), count=count)

    def _real_sides(self) -> dict[Need, Gathered]:
        """Features of the real sides, from the cache or made now; complete on the main process."""
        wanted = {self.real_need(spec): spec for spec in self.specs if spec.needs_real}
        facts = {need: self._facts(need, spec) for need, spec in wanted.items()}
        found: dict[Need, Gathered] = {}

        def look() -> list[Need]:
            for need in wanted:
                stored = self.cache.load(facts[need])
                if stored is not None:
                    found[need] = stored
            return [need for need in wanted if need not in found]

        missing = self.processes.from_main(look)
        for resolution in dict.fromkeys(need.resolution for need in missing):
            real = self.reals[resolution]
            needs = [replace(need, resolution=None) for need in missing if need.resolution == resolution]
            made = self._collect(real.pictures, needs, {"real": real.fingerprint}, "real")
            for need, gathered in made.items():
                need = replace(need, resolution=resolution)
                found[need] = gathered
                if self.processes.is_main:
                    self.cache.store(facts[need], gathered)
        return found

    def _facts(self, need: Need, spec: MetricSpec) -> dict[str, Any]:
        return self.cache.facts(self.reals[spec.resolution], need, asdict(self.shelf.about(spec)))

    def _collect(
        self, pictures: Any, needs: list[Need], facts: Mapping[str, Any], label: str, captions: Any = None
    ) -> dict[Need, Gathered]:
        looks = {(self.fake_need(spec).extractor, self.fake_need(spec).output): spec for spec in self.specs}
        used = {(need.extractor, need.output): looks[need.extractor, need.output] for need in needs}
        hashes = sorted(self.shelf.about(spec).extractor_hash for spec in used.values())
        return collect(
            pictures,
            needs,
            {name: self.shelf.extract(spec, captions) for (name, _), spec in used.items()},
            {key: self.shelf.width(spec) for key, spec in used.items()},
            processes=self.processes,
            batch_size=self.batch_size,
            folder=None if self.folder is None else self.folder / label,
            facts={**facts, "extractors": hashes},
            label=label,
        )

    def _results(
        self, spec: MetricSpec, real: Mapping[Need, Gathered], fake: Mapping[Need, Gathered], broken: str
    ) -> list[Result]:
        about = self.shelf.about(spec)
        n_real = self.reals[spec.resolution].count(spec.n_real) if spec.needs_real else 0
        base = Result(spec.name, math.nan, None, "", spec, n_real, about)
        sides = [real[self.real_need(spec)]] if spec.needs_real else []
        sides += [fake[self.fake_need(spec)]] if not broken else []
        note = broken or next(filter(None, map(_not_finite, sides)), "")
        if note:
            return [replace(base, note=note)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = self._values(spec, sides)
        note = "; ".join(dict.fromkeys(str(warning.message) for warning in caught))
        return [
            replace(base, metric=spec.name + part, value=value, std=std, std_over=over, note=note)
            for part, value, std, over in values
        ]

    def _values(self, spec: MetricSpec, sides: Sequence[Any]) -> list[tuple[str, float, float | None, str]]:
        """(ending of the name, value, standard deviation, over what) of every number of a metric."""
        if spec.reduction == "frechet":
            real, fake = sides
            key = self.real_need(spec), spec.ddof
            if key not in self._roots:
                self._roots[key] = covariance_root(real, spec.ddof)
            value = frechet_from_moments(real, fake, ddof=spec.ddof, real_root=self._roots[key])
            return [("", value, None, "")]
        if spec.reduction == "kid":
            return [("", *kid(*sides), "subsets")]
        if spec.reduction == "inception_score":
            return [("", *inception_score(sides[0]), "splits")]
        if spec.reduction == "precision_recall":
            return [(f"_{name}", value, None, "") for name, value in asdict(prdc(*sides)).items()]
        if spec.reduction == "clip_score":
            return [("", float(sides[0].double().mean()), None, "")]
        return [("", {"kid_full": kid_full, "cmmd": cmmd}[spec.reduction](*sides), None, "")]


def _not_finite(side: Gathered) -> str:
    """What is wrong with features, or nothing."""
    if isinstance(side, Moments):
        bad, count = side.nonfinite, side.n + side.nonfinite
    else:
        bad, count = len(side) - int(torch.isfinite(side).all(dim=1).sum()), len(side)
    if not bad:
        return ""
    return f"features of {bad} of {count} pictures hold NaN or infinite values: check pictures and extractor"


def _from_generator(
    fakes: Fakes, spec: MetricSpec, shelf: Shelf, processes: Processes, batch_size: int
) -> Result:
    """EQ-T and path length share their work over the processes by themselves."""
    assert isinstance(fakes, GeneratorFakes)
    given: dict[str, Any] = {"conditions": fakes.encoded, "seed": fakes.seed, "batch_size": batch_size}

    def measure() -> float:
        if spec.reduction == "ppl":
            return ppl(fakes.generator, shelf.lpips(), spec.n_fake, **given)
        return eqt(fakes.generator, spec.n_fake, fractional=spec.reduction == "eqt_frac", **given)

    try:
        value = processes.agree(measure)
        note = "" if math.isfinite(value) else "no error at all, so the ratio is infinite"
    except NotFiniteError as error:
        value, note = math.nan, str(error)
    return Result(spec.name, value, None, "", spec, 0, shelf.about(spec), note)
