"""Measures how far the metrics agree with torch-fidelity and torchmetrics, from pictures to numbers.

    python benchmarks/metrics_agreement.py [--generated 2000] [--real 500] [--seed 0] [--own-pass] [--json F]

Pictures of the text model in data/emoji-scenes are compared with emoji-scenes:24x8 by all three, through
one file of pseudo Inception weights that anybody can make again. Every difference is shown twice: from
pictures on, where each side runs its own network, and from equal features on, where only the arithmetic
differs. torchmetrics gets torch-fidelity's features; with --own-pass it also runs its own network over all
pictures, at the end. Needs torch-fidelity and torchmetrics (`pip install 'sgxl-t[dev,metrics]'`); on one
thread each network takes about a quarter of a second a picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch_fidelity
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import frechet_distance, frechet_from_statistics
from sgxl_t.metrics.distances.inception_score import inception_score
from sgxl_t.metrics.distances.kernels import kid
from sgxl_t.metrics.distances.prdc import prdc
from sgxl_t.metrics.features import load_extractor
from sgxl_t.metrics.features.extractor_cache import ExtractorCache
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.metrics.protocol import parse_metric
from sgxl_t.metrics.real_cache import RealImages
from sgxl_t.metrics.runner import evaluate
from sgxl_t.model_io.model_folder import load_model

DATA = "emoji-scenes:24x8"
MODEL = Path(__file__).parents[1] / "data/emoji-scenes/model"
DIM = 2048
FEW = 128
"""Leading features, fewer than pictures; some hardly vary, so covariances are regular in name only."""
BATCH = 16
THEIR_NAMES = {
    "FID": "frechet_inception_distance",
    "KID mean": "kernel_inception_distance_mean",
    "KID std": "kernel_inception_distance_std",
    "IS mean": "inception_score_mean",
    "IS std": "inception_score_std",
    "precision": "precision",
    "recall": "recall",
}
"""Numbers compared, with torch-fidelity's names for them."""


@dataclass
class Rows:
    """Features of one side, on the CPU: pool3 [N, 2048] and logits [N, 1008], real and generated."""

    real: Tensor
    fake: Tensor
    logits: Tensor
    """Of the generated pictures."""


@dataclass
class Report:
    """Lines shown so far, also for the JSON file."""

    facts: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, ours: float, theirs: float, by: str) -> None:
        """Prints one comparison."""
        difference = abs(ours - theirs) / abs(theirs) if theirs else abs(ours)
        self.lines.append({"what": what, "by": by, "ours": ours, "theirs": theirs, "difference": difference})
        print(f"  {what:12}{ours:20.12g}{theirs:20.12g}  {difference:8.1e}  {by}", flush=True)

    def head(self, title: str) -> None:
        """Prints the title of a block of comparisons."""
        print(f"\n{title}\n  {'':12}{'this package':>20}{'the other':>20}  {'relative':>8}", flush=True)

    def seconds(self, name: str, value: float) -> None:
        """Prints and keeps a time."""
        self.facts[f"{name}, s"] = round(value, 1)
        print(f"  {name}: {value:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generated", type=int, default=2000, help="generated pictures")
    parser.add_argument("--real", type=int, default=500, help="real pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the generated pictures")
    parser.add_argument("--own-pass", action="store_true", help="torchmetrics runs its own network too")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    facts = {"machine": platform.machine(), "threads": torch.get_num_threads()}
    report = Report({**facts, "seed": options.seed})
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SGXL_T_CACHE"] = folder
        compare(options, report, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=1) + "\n")


def compare(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """All comparisons, each printed as soon as it is known."""
    weights = folder / "inception.pth"
    torch.save(load_extractor("inception_hash").network.state_dict(), weights)
    start = time.perf_counter()
    model, reals = make_sides(options.seed)
    generated = in_batches(model.images, options.generated, "generating")
    real = in_batches(reals.images, reals.count(options.real), "real pictures")
    report.facts |= {"generated": len(generated), "real": len(real)}
    print(f"{len(generated)} generated and {len(real)} real pictures of {real.shape[-1]} px, {DATA}")
    report.seconds("making them", time.perf_counter() - start)
    ours, our_rows = our_numbers(CachedImages(generated), reals, len(real), weights, report)
    theirs, their_rows = their_numbers(generated, real, weights, report)
    report.head("from pictures, each side with its own network")
    for name in THEIR_NAMES:
        report.add(name, ours[name], theirs[name], "torch-fidelity")
    compare_features(our_rows, their_rows)
    compare_arithmetic(their_rows, ours, theirs, report)
    if options.own_pass:
        start = time.perf_counter()
        metric = FrechetInceptionDistance(DIM, feature_extractor_weights_path=str(weights), antialias=False)
        value = fid_of_torchmetrics(metric, real, generated)
        report.head("from pictures, torchmetrics with its own network (its result is float32)")
        report.add("FID", ours["FID"], value, "torchmetrics")
        report.seconds("torchmetrics", time.perf_counter() - start)


def make_sides(seed: int) -> tuple[GeneratorImages, RealImages]:
    """That model with captions of the data, and the data."""
    generator, condition, _ = load_model(MODEL)
    source = open_source(DATA, resolution=generator.img_resolution)
    return GeneratorImages(generator, condition, seed=seed, source=source), RealImages(source, DATA)


def in_batches(pictures: Any, count: int, label: str) -> Tensor:
    """The first pictures, uint8 [count, 3, R, R]."""
    starts = tqdm(range(0, count, BATCH), label, unit="batch", leave=False)
    return torch.cat([pictures(range(start, min(start + BATCH, count))) for start in starts])


class CachedImages:
    """Pictures made before, so that no time of a generator is counted."""

    def __init__(self, images: Tensor) -> None:
        self.stored, self.size = images, (images.shape[-2], images.shape[-1])

    def check_count(self, count: int) -> None:
        """There are as many as are asked for."""
        assert count <= len(self.stored)

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, R, R]."""
        return self.stored[list(indices)]

    def describe(self) -> dict[str, Any]:
        """Where they come from."""
        return {"model": "data/emoji-scenes/model"}


def our_numbers(
    generated: CachedImages, reals: RealImages, n_real: int, weights: Path, report: Report
) -> tuple[dict[str, float], Rows]:
    """The package's evaluation, and the features its network gave."""
    count = len(generated.stored)
    names = (f"fid{count}_vs_{n_real}", f"kid{count}_vs_{n_real}", f"is{count}", f"pr_inc{count}_vs_{n_real}")
    extractors = ExtractorCache(weights={"inception": weights})
    specs = [extractors.named_by_weights(parse_metric(name)) for name in names]
    seen: list[dict[str, Tensor]] = []
    extractors.extractor("inception").register_forward_hook(lambda *args: seen.append(args[2]))
    start = time.perf_counter()
    results = evaluate(generated, specs, {None: reals}, extractors, batch_size=BATCH)
    report.seconds("this package, all metrics", time.perf_counter() - start)
    for note in dict.fromkeys(result.note for result in results if result.note):
        print(f"  {note}")
    fid, kernel, score, *shares = results
    found = {
        "FID": fid.value,
        "KID mean": kernel.value,
        "KID std": float(kernel.std or 0),
        "IS mean": score.value,
        "IS std": float(score.std or 0),
        "precision": next(share.value for share in shares if share.metric.endswith("_precision")),
        "recall": next(share.value for share in shares if share.metric.endswith("_recall")),
    }
    for name, value in found.items():
        print(f"  {name:12}{value:20.12g}", flush=True)
    pool3, logits = (torch.cat([outputs[name] for outputs in seen]) for name in ("pool3", "logits"))
    assert len(pool3) == n_real + count, "the real pictures come first, and each picture once"
    return found, Rows(pool3[:n_real], pool3[n_real:], logits[n_real:])


class Remembering(FeatureExtractorInceptionV3):
    """torch-fidelity's network, which keeps the features it gives."""

    seen: ClassVar[list[dict[str, Tensor]]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = super().forward(x)
        self.seen.append(self.convert_features_tuple_to_dict(found))
        return found


class Images(Dataset[Tensor]):
    """Pictures uint8 [3, R, R] by index, as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def their_numbers(
    generated: Tensor, real: Tensor, weights: Path, report: Report
) -> tuple[dict[str, float], Rows]:
    """One call of torch-fidelity with the same subsets and the same order of pictures, and its features."""
    torch_fidelity.register_feature_extractor("remembering", Remembering)
    start = time.perf_counter()
    found = torch_fidelity.calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        feature_extractor="remembering",
        feature_extractor_weights_path=str(weights),
        feature_layer_prc=str(DIM),
        batch_size=BATCH,
        kid_subset_size=subset_size(generated, real),
        rng_seed=0,
        samples_shuffle=False,
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
    )
    report.seconds("torch-fidelity, all metrics", time.perf_counter() - start)
    pool3, logits = (
        torch.cat([outputs[name] for outputs in Remembering.seen]) for name in (str(DIM), "logits_unbiased")
    )
    count = len(generated)
    assert len(pool3) == count + len(real), "the generated pictures come first, and each picture once"
    numbers = {name: float(found[key]) for name, key in THEIR_NAMES.items()}
    return numbers, Rows(pool3[count:], pool3[:count], logits[:count])


def subset_size(generated: Tensor, real: Tensor) -> int:
    """Rows in a subset of KID, as this package chooses them."""
    return min(1000, len(generated), len(real))


def compare_features(ours: Rows, theirs: Rows) -> None:
    """Prints how far the networks are apart, over all pictures and for the worst of them."""
    print("\nfeatures, norm of the difference over the norm")
    for name in ("real", "fake", "logits"):
        mine, other = getattr(ours, name).double(), getattr(theirs, name).double()
        whole = float((mine - other).norm() / other.norm())
        worst = float(((mine - other).norm(dim=1) / other.norm(dim=1)).max())
        print(f"  {name:12}all {whole:.1e}, worst picture {worst:.1e}", flush=True)


def compare_arithmetic(rows: Rows, ours: dict[str, float], theirs: dict[str, float], report: Report) -> None:
    """Equal features, torch-fidelity's, through all arithmetics."""
    real, fake = (statistics(side) for side in (rows.real, rows.fake))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer pictures than features, which is said below
        fid = frechet_from_statistics(real, fake)
    kernel, score, shares = (
        kid(rows.real, rows.fake),
        inception_score(rows.logits),
        prdc(rows.real, rows.fake),
    )
    report.head("from equal features (torch-fidelity's)")
    values = (fid, *kernel, *score, shares.precision, shares.recall)
    for name, value in zip(THEIR_NAMES, values, strict=True):
        report.add(name, value, theirs[name], "torch-fidelity")
    exact = frechet_distance(rows.real, rows.fake)
    report.add("FID", fid, exact, "factors of the features, no covariance")
    report.add("FID", ours["FID"], fid, "this package from pictures, against its own from these features")
    network = nn.Identity()
    network.num_features = DIM
    start = time.perf_counter()
    value = fid_of_torchmetrics(FrechetInceptionDistance(network), rows.real.double(), rows.fake.double())
    report.add("FID", fid, value, "torchmetrics")
    report.add("FID", ours["FID"], value, "torchmetrics, this package from pictures")
    report.seconds("torchmetrics, arithmetic alone", time.perf_counter() - start)
    compare_in_float64(rows, report)
    if min(len(rows.real), len(rows.fake)) <= DIM:
        print(
            f"  With no more pictures than the {DIM} features covariances are singular: others take roots of"
            "\n  eigenvalues that are zero but for rounding, so their FID keeps fewer digits than it might."
        )


def compare_in_float64(rows: Rows, report: Report) -> None:
    """torch-fidelity's own functions on float64 features, and FID of fewer features than pictures.

    From the moments FID takes roots of eigenvalues, which halves the digits of small ones; from the features
    themselves it takes none.
    """
    real, fake = rows.real.double(), rows.fake.double()
    options = {"rng_seed": 0, "save_cpu_ram": True, "verbose": False}
    theirs = kid_features_to_metric(fake, real, kid_subset_size=subset_size(fake, real), **options)
    theirs |= prc_features_to_metric(fake, real, **options)
    shares = prdc(rows.real, rows.fake)
    values = zip(
        ("KID mean", "KID std", "precision", "recall"),
        (*kid(rows.real, rows.fake), shares.precision, shares.recall),
        strict=True,
    )
    for name, value in values:
        report.add(name, value, theirs[THEIR_NAMES[name]], "torch-fidelity, in float64")
    width = min(FEW, len(real) // 2, len(fake) // 2)
    real, fake = real[:, :width], fake[:, :width]
    statistics = [fid_features_to_statistics(side) for side in (fake, real)]
    other = fid_statistics_to_metric(*statistics, verbose=False)[THEIR_NAMES["FID"]]
    by = f"torch-fidelity, in float64, {width} features only"
    report.add("FID", frechet_from_statistics(statistics(real), statistics(fake)), other, by)
    report.add("FID", frechet_distance(real, fake), other, f"{by}, this package from factors")


def statistics(rows: Tensor) -> FeatureStatistics:
    """Moments of features [N, D]."""
    result = FeatureStatistics(rows.shape[1])
    result.update(rows)
    return result


def fid_of_torchmetrics(metric: FrechetInceptionDistance, real: Tensor, fake: Tensor) -> float:
    """The metric over pictures, or over features where its network is none."""
    with torch.no_grad():
        for side, is_real in ((real, True), (fake, False)):
            for batch in tqdm(side.split(BATCH), "torchmetrics", unit="batch", leave=False):
                metric.update(batch, real=is_real)
        return float(metric.compute())


if __name__ == "__main__":
    main()
