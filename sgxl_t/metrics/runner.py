"""Metrics of generated images: which features they need, one pass for all of them, and the numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sgxl_t.datasets.decode import Size
from sgxl_t.metrics.collect import FeatureRequest, GatheredFeatures, ImagesByIndex, collect
from sgxl_t.metrics.distances.equivariance import eqt, input_of
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import covariance_root, frechet_from_statistics
from sgxl_t.metrics.distances.inception_score import inception_score
from sgxl_t.metrics.distances.kernels import cmmd, kid, kid_full
from sgxl_t.metrics.distances.ppl import ppl
from sgxl_t.metrics.distances.prdc import NEIGHBOURS, prdc
from sgxl_t.metrics.distances.rotation import eqr
from sgxl_t.metrics.features.extractor_cache import COSINE, ExtractorCache, ExtractorInfo
from sgxl_t.metrics.generated import GeneratedImages, GeneratorImages, shown_size
from sgxl_t.metrics.processes import NotFiniteError, Processes
from sgxl_t.metrics.protocol import REDUCTIONS, MetricSpec
from sgxl_t.metrics.real_cache import RealCache, RealImages

RealByResolution = Mapping[int | None, RealImages]
"""Real images by evaluation resolution; None: that of the generated ones."""


@dataclass(frozen=True)
class MetricResult:
    """One number. value is NaN, and note says why, where features were not finite."""

    metric: str
    value: float
    std: float | None
    std_over: str
    spec: MetricSpec
    n_real: int
    info: ExtractorInfo
    note: str = ""


def evaluate(
    generated: GeneratedImages,
    specs: Sequence[MetricSpec],
    reals: RealByResolution,
    extractors: ExtractorCache,
    *,
    processes: Processes | None = None,
    cache: RealCache | None = None,
    batch_size: int = 32,
    folder: Path | None = None,
) -> list[MetricResult]:
    """All metrics from one pass over the generated images, equal on every process.

    reals: by resolution of the specs; may be empty where none compares with real images. cache: where
    features of real images are kept. folder: keeps unfinished work; who has the results removes it.
    Raises ValueError, before any image is made, for metrics that cannot be computed. Features that are not
    finite give NaN with a note.
    """
    processes = processes or Processes()
    processes.agree(lambda: check_request(generated, specs, reals, extractors))
    on_images = [spec for spec in specs if not spec.needs_generator]
    results: dict[str, list[MetricResult]] = {}
    if on_images:
        cache = cache or RealCache(None)
        results = _ImagePass(
            generated, on_images, reals, extractors, processes, cache, batch_size, folder
        ).run()
    for spec in specs:
        if spec.needs_generator:
            results[spec.name] = [_of_generator(generated, spec, extractors, processes, batch_size)]
    return [result for spec in specs for result in results[spec.name]]


def check_request(
    generated: GeneratedImages,
    specs: Sequence[MetricSpec],
    reals: RealByResolution,
    extractors: ExtractorCache,
) -> None:
    """Raises ValueError for whatever would fail later; loads the extractors."""
    if not specs:
        raise ValueError("there is no metric to compute: name one, such as fid10k")
    for spec in specs:
        generated.check_count(spec.n_fake)
        _check_kind(generated, spec)
        _check_size(generated.size, spec)
        if spec.needs_real:
            if spec.resolution not in reals:
                raise ValueError(f"{spec.name} compares with real pictures and none are given: name --data")
            reals[spec.resolution].count(spec.n_real)
        extractors.info(spec)
        if not spec.needs_generator and not isinstance(generated, GeneratorImages):
            size = (spec.resolution,) * 2 if spec.resolution is not None else generated.size
            _check_extractor(size, spec, extractors)


def _check_kind(generated: GeneratedImages, spec: MetricSpec) -> None:
    """Raises ValueError where a metric needs a generator, a text model or an input transform."""
    model = generated if isinstance(generated, GeneratorImages) else None
    if spec.needs_generator and model is None:
        raise ValueError(f"{spec.name} looks into a generator and pictures are given: name a model folder")
    if spec.reduction in ("eqt_int", "eqt_frac", "eqr") and model is not None:
        input_of(model.generator)
    if spec.reduction == "clip_score" and (model is None or model.condition.kind != "text"):
        raise ValueError(f"{spec.name} compares pictures with their captions: name a text model")


def _check_size(size: Size, spec: MetricSpec) -> None:
    """Raises ValueError for images that cannot be brought to the size a metric is defined at."""
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


def _check_extractor(size: Size, spec: MetricSpec, extractors: ExtractorCache) -> None:
    """Raises ValueError where the network of a metric cannot take images of a size; most resize them."""
    try:
        extractors.function(spec).compute(torch.zeros(1, 3, *size, dtype=torch.uint8), [0])
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise ValueError(
            f"{spec.extractor} cannot look at pictures of {shown_size(size)} ({reason}): bring them to "
            f"another size with `sgxl-t prepare`, or leave {spec.name} out"
        ) from None


@dataclass
class _ImagePass:
    """One pass over generated and real images for the metrics that compare them."""

    generated: GeneratedImages
    specs: Sequence[MetricSpec]
    reals: RealByResolution
    extractors: ExtractorCache
    processes: Processes
    cache: RealCache
    batch_size: int
    folder: Path | None
    roots: dict[tuple[FeatureRequest, int], Tensor] = field(default_factory=dict)
    """Roots of the covariances of real features, by ddof."""

    def run(self) -> dict[str, list[MetricResult]]:
        """Results by name of the spec, on every process."""
        real = self._real_features()
        requests = list(dict.fromkeys(self.generated_request(spec) for spec in self.specs))
        fake: dict[FeatureRequest, GatheredFeatures] = {}
        broken = ""
        try:
            fake = self._collect(self.generated.images, requests, self.generated.describe(), "generated")
        except NotFiniteError as error:
            broken = str(error)
        return self.processes.from_main(
            lambda: {spec.name: self._results(spec, real, fake, broken) for spec in self.specs}
        )

    def generated_request(self, spec: MetricSpec) -> FeatureRequest:
        """Features of generated images that a metric needs."""
        if spec.reduction == "clip_score":
            name = f"captions {spec.extractor}"
            return FeatureRequest(name, COSINE, "rows", spec.n_fake, spec.resolution)
        kind: Literal["moments", "rows"] = "moments" if spec.reduction == "frechet" else "rows"
        return FeatureRequest(spec.extractor, spec.output, kind, spec.n_fake, spec.resolution)

    def real_request(self, spec: MetricSpec) -> FeatureRequest:
        """Features of real images that a metric needs."""
        count = self.reals[spec.resolution].count(spec.n_real)
        return replace(self.generated_request(spec), count=count)

    def _real_features(self) -> dict[FeatureRequest, GatheredFeatures]:
        """Features of real images, from the cache or made now; complete on the main process."""
        wanted = {self.real_request(spec): spec for spec in self.specs if spec.needs_real}
        facts = {request: self._cache_facts(request, spec) for request, spec in wanted.items()}
        found: dict[FeatureRequest, GatheredFeatures] = {}

        def look() -> list[FeatureRequest]:
            for request in wanted:
                stored = self.cache.load(facts[request])
                if stored is not None:
                    found[request] = stored
            return [request for request in wanted if request not in found]

        missing = self.processes.from_main(look)
        for resolution in dict.fromkeys(request.resolution for request in missing):
            real = self.reals[resolution]
            # Real images have the resolution of the evaluation already.
            requests = [replace(one, resolution=None) for one in missing if one.resolution == resolution]
            made = self._collect(real.images, requests, {"real": real.fingerprint}, "real")
            for request, features in made.items():
                request = replace(request, resolution=resolution)
                found[request] = features
                if self.processes.is_main:
                    self.cache.store(facts[request], features)
        return found

    def _cache_facts(self, request: FeatureRequest, spec: MetricSpec) -> dict[str, Any]:
        return self.cache.facts(self.reals[spec.resolution], request, asdict(self.extractors.info(spec)))

    def _collect(
        self,
        images: ImagesByIndex,
        requests: Sequence[FeatureRequest],
        facts: Mapping[str, Any],
        label: str,
    ) -> dict[FeatureRequest, GatheredFeatures]:
        """`collect` with the extractors of these requests. label: "generated" or "real"."""
        asked = {self.generated_request(spec): spec for spec in self.specs}
        of_output = {(one.extractor, one.output): spec for one, spec in asked.items()}
        used = {(one.extractor, one.output): of_output[one.extractor, one.output] for one in requests}
        hashes = sorted(self.extractors.info(spec).extractor_hash for spec in used.values())
        captions = self.generated.conditions if isinstance(self.generated, GeneratorImages) else None
        return collect(
            images,
            requests,
            {name: self.extractors.function(spec, captions) for (name, _), spec in used.items()},
            processes=self.processes,
            batch_size=self.batch_size,
            folder=None if self.folder is None else self.folder / label,
            facts={**facts, "extractors": hashes},
            label=label,
        )

    def _results(
        self,
        spec: MetricSpec,
        real: Mapping[FeatureRequest, GatheredFeatures],
        fake: Mapping[FeatureRequest, GatheredFeatures],
        broken: str,
    ) -> list[MetricResult]:
        """The numbers of one metric. broken: why there are no generated features, or nothing."""
        info = self.extractors.info(spec)
        n_real = self.reals[spec.resolution].count(spec.n_real) if spec.needs_real else 0
        base = MetricResult(spec.name, math.nan, None, "", spec, n_real, info)
        sides = [real[self.real_request(spec)]] if spec.needs_real else []
        sides += [fake[self.generated_request(spec)]] if not broken else []
        note = broken or next(filter(None, map(_not_finite, sides)), "") or _too_few(spec, n_real)
        if note:
            return [replace(base, note=note)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = self._values(spec, sides)
        said = [str(warning.message) for warning in caught]
        said += [self.reals[spec.resolution].warning] if spec.needs_real else []
        note = "; ".join(filter(None, dict.fromkeys(said)))
        return [
            replace(base, metric=spec.name + part, value=value, std=std, std_over=over, note=note)
            for part, value, std, over in values
        ]

    def _values(self, spec: MetricSpec, sides: Sequence[Any]) -> list[tuple[str, float, float | None, str]]:
        """(ending of the name, value, standard deviation, over what) of every number of a metric."""
        if spec.reduction == "frechet":
            real, fake = sides
            key = self.real_request(spec), spec.ddof
            if key not in self.roots:
                self.roots[key] = covariance_root(real, spec.ddof)
            value = frechet_from_statistics(real, fake, ddof=spec.ddof, real_root=self.roots[key])
            return [("", value, None, "")]
        if spec.reduction == "kid":
            return [("", *kid(*sides), "subsets")]
        if spec.reduction == "inception_score":
            return [("", *inception_score(sides[0]), "splits")]
        if spec.reduction == "precision_recall":
            return [(f"_{name}", value, None, "") for name, value in asdict(prdc(*sides)).items()]
        if spec.reduction == "clip_score":
            return [("", float(sides[0].double().mean()), None, "")]
        return [("", {"kid_full": kid_full, "cmmd": cmmd, **REDUCTIONS}[spec.reduction](*sides), None, "")]


def _too_few(spec: MetricSpec, n_real: int) -> str:
    """Why so few pictures give no precision and recall, or nothing."""
    if spec.reduction != "precision_recall" or min(spec.n_fake, n_real) > NEIGHBOURS:
        return ""
    return (
        f"precision and recall look at {NEIGHBOURS} neighbours and need more pictures than that on "
        f"both sides, there are {n_real} real and {spec.n_fake} generated: give more, or leave it out"
    )


def _not_finite(features: GatheredFeatures) -> str:
    """What is wrong with features, or nothing."""
    if isinstance(features, FeatureStatistics):
        bad, count = features.nonfinite, features.n + features.nonfinite
    else:
        bad, count = len(features) - int(torch.isfinite(features).all(dim=1).sum()), len(features)
    if not bad:
        return ""
    return f"features of {bad} of {count} pictures hold NaN or infinite values: check pictures and extractor"


def _of_generator(
    generated: GeneratedImages,
    spec: MetricSpec,
    extractors: ExtractorCache,
    processes: Processes,
    batch_size: int,
) -> MetricResult:
    """Equivariance or path length, which look into the generator and divide their work over the processes."""
    assert isinstance(generated, GeneratorImages)
    generator = generated.generator
    given: dict[str, Any] = {
        "conditions": generated.encoded,
        "seed": generated.seed,
        "batch_size": batch_size,
    }

    def measure() -> float:
        if spec.reduction == "ppl":
            return ppl(generator, extractors.image_distance(spec), spec.n_fake, **given)
        if spec.reduction == "eqr":
            return eqr(generator, spec.n_fake, **given)
        return eqt(generator, spec.n_fake, fractional=spec.reduction == "eqt_frac", **given)

    try:
        value = processes.agree(measure)
        note = "" if math.isfinite(value) else "the error is zero, so the ratio is infinite"
    except NotFiniteError as error:
        value, note = math.nan, str(error)
    return MetricResult(spec.name, value, None, "", spec, 0, extractors.info(spec), note)
