"""Which metrics there are, and what each name promises about how its number is made."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from sgxl_t.metrics.features import EXTRACTOR_NAMES, KNOWN

DEFAULT_CLIP = "open_clip:ViT-g-14/laion2b_s12b_b42k"
"""CLIP of the published scores (StyleGAN-T, section 4)."""
VERSION = 1
"""Raise whenever the same name gives another number; results of different versions are not compared."""

GENERATOR_REDUCTIONS = ("eqt_int", "eqt_frac", "eqr", "ppl")
"""These look into the generator; all others compare images."""
LOWER_IS_BETTER = {"frechet", "kid", "kid_full", "cmmd", "ppl"}


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One number and how it is made. Equal specs on equal real data give comparable numbers."""

    name: str
    """Canonical name with the count of generated images, such as fid50k_full."""
    reduction: str
    """What turns features into a number: frechet, kid, precision_recall, ..., or a registered metric."""
    extractor: str = ""
    """Name for `load_extractor`; empty where no features are compared."""
    output: str = ""
    """Which output of the extractor."""
    n_fake: int
    """Generated images."""
    n_real: int | None = None
    """Real images at most, drawn at random with a fixed seed; None all, 0 none."""
    ddof: int = 1
    """Covariances are divided by N - ddof."""
    resolution: int | None = None
    """Pictures are reduced to this size first (zero-shot COCO); None: as the generator makes them."""

    @property
    def needs_real(self) -> bool:
        """Whether generated images are compared with real ones."""
        return self.n_real != 0

    @property
    def needs_generator(self) -> bool:
        """Whether the generator itself is measured, so that a folder of images is not enough."""
        return self.reduction in GENERATOR_REDUCTIONS

    @property
    def is_coco(self) -> bool:
        """Whether the prompts are a frozen list of COCO's captions."""
        return "_coco" in self.name

    @property
    def lower_is_better(self) -> bool:
        """Direction of the metric."""
        return self.reduction in LOWER_IS_BETTER

    def protocol(self, facts: Mapping[str, Any]) -> str:
        """Sixteen hex digits that are equal where numbers may be compared.

        facts: what is not in the spec: hash and preprocessing of the extractor, fingerprint of the real data.
        """
        # A local network is known by its hash, wherever it lies; the name repeats what the other fields say.
        extractor = "local" if self.extractor.startswith("local:") else self.extractor
        parts = {
            "version": VERSION,
            "spec": {**asdict(self), "name": "", "extractor": extractor},
            "facts": dict(facts),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class MetricFamily:
    """All metrics that differ in counts only.

    template: {n} stands for the count of generated images, 3 after it for k, {label} for the extractor.
    """

    template: str
    reduction: str
    extractor: str = ""
    output: str = ""
    n_fake: int = 50_000
    n_real: int | None = None
    resolution: int | None = None

    def spec(self, count: int | None = None, label: str = "") -> MetricSpec:
        """The metric on `count` generated images, or on as many as the papers use; label: its extractor."""
        count = self.n_fake if count is None else count
        n_real = self.n_real
        if self.reduction == "cmmd" and n_real is not None:
            n_real = count
        shown = format_count(count)
        template = self.template if shown.endswith("k") else self.template.replace("{n}3_", "{n}_k3_")
        return MetricSpec(
            name=template.format(n=shown, label=label),
            reduction=self.reduction,
            extractor=self.extractor,
            output=self.output,
            n_fake=count,
            n_real=n_real,
            resolution=self.resolution,
        )


def _inception(template: str, reduction: str, output: str = "pool3", **more: Any) -> MetricFamily:
    return MetricFamily(template=template, reduction=reduction, extractor="inception", output=output, **more)


FAMILIES: dict[str, MetricFamily] = {
    "fid": _inception("fid{n}_full", "frechet"),
    "cleanfid": MetricFamily(
        template="cleanfid{n}_full", reduction="frechet", extractor="inception_clean", output="pool3"
    ),
    "sfid": _inception("sfid{n}_full", "frechet", "spatial"),
    "rfid": MetricFamily(
        template="rfid{n}_full", reduction="frechet", extractor="rinception", output="pool3"
    ),
    "rfid_hash": MetricFamily(
        template="rfid_hash{n}_full", reduction="frechet", extractor="inception_hash", output="pool3"
    ),
    "is": _inception("is{n}", "inception_score", "logits", n_real=0),
    "kid": _inception("kid{n}_full", "kid", n_real=1_000_000),
    "kid_full": _inception("kid_full_{n}", "kid_full", n_real=1_000_000),
    "pr": MetricFamily(
        template="pr{n}3_vgg_full",
        reduction="precision_recall",
        extractor="vgg16",
        output="fc2",
        n_real=200_000,
    ),
    "pr_inc": _inception("pr{n}3_inc_10k", "precision_recall", n_real=10_000),
    "fid_clip": MetricFamily(
        template="fid_clip{n}_full", reduction="frechet", extractor="clip_vit_b32", output="projected"
    ),
    "fid_coco64": _inception("fid{n}_coco64", "frechet", n_fake=30_000, resolution=64),
    "fid_coco256": _inception("fid{n}_coco256", "frechet", n_fake=30_000, resolution=256),
    "cmmd": MetricFamily(
        template="cmmd{n}",
        reduction="cmmd",
        extractor="clip_vit_l14_336",
        output="unit",
        n_fake=30_000,
        n_real=30_000,
    ),
    "cs": MetricFamily(
        template="cs{n}", reduction="clip_score", extractor=DEFAULT_CLIP, n_fake=10_000, n_real=0
    ),
    "cs_coco": MetricFamily(
        template="cs{n}_coco", reduction="clip_score", extractor=DEFAULT_CLIP, n_fake=30_000, n_real=0
    ),
    "eqt_int": MetricFamily(template="eqt{n}_int", reduction="eqt_int", n_real=0),
    "eqt_frac": MetricFamily(template="eqt{n}_frac", reduction="eqt_frac", n_real=0),
    "eqr": MetricFamily(template="eqr{n}_lanczos", reduction="eqr", n_real=0),
    "ppl": MetricFamily(template="ppl{n}_wend", reduction="ppl", extractor="lpips", n_real=0),
}
"""Word to family. The words alone stand for the counts of the papers."""

Reduce = Callable[[Tensor, Tensor], float]
REDUCTIONS: dict[str, Reduce] = {}
"""Registered metrics by name."""


def register_metric(
    word: str,
    *,
    extractor: str,
    output: str = "pooled",
    n_real: int | None = None,
    lower_is_better: bool = True,
) -> Callable[[Reduce], Reduce]:
    """Decorator: a function of real and generated features, float32 [N, D] each, becomes the metric `word`.

    It is then known with counts (`word2k`) and `_vs_N` wherever metrics are named. extractor, output: whose
    features. n_real: real images at most; None takes all. ValueError for a word that is taken.
    """
    if word in (*FAMILIES, *GENERIC) or not re.fullmatch(r"[a-z][a-z_]*", word):
        raise ValueError(f"{word!r} is taken or not of small letters and _ alone: choose another name")

    def register(reduce: Reduce) -> Reduce:
        FAMILIES[word] = MetricFamily(
            template=f"{word}{{n}}", reduction=word, extractor=extractor, output=output, n_real=n_real
        )
        REDUCTIONS[word] = reduce
        if lower_is_better:
            LOWER_IS_BETTER.add(word)
        return reduce

    return register


ALIASES = {"clip_datacomp": "clip_vit_l14_datacomp", "random": "random:small_cnn"}
"""Short names of extractors in fd_NAME, kd_NAME and others; full names and references work too."""
GENERIC: dict[str, MetricFamily] = {
    "fd": MetricFamily(template="fd_{label}_{n}", reduction="frechet"),
    "kd": MetricFamily(template="kd_{label}_{n}", reduction="kid", n_real=1_000_000),
    "kd_full": MetricFamily(template="kd_full_{label}_{n}", reduction="kid_full", n_real=1_000_000),
    "pr": MetricFamily(template="pr_{label}_{n}", reduction="precision_recall", n_real=200_000),
    "cs": MetricFamily(template="cs_{label}_{n}", reduction="clip_score", n_fake=10_000, n_real=0),
    "ppl": MetricFamily(template="ppl_{label}_{n}", reduction="ppl", n_real=0),
}
"""The same reductions on any other extractor: none of these is a FID, KID, published precision or path
length."""


@dataclass(frozen=True)
class Preset:
    """Settings that belong together. short_names: what other words stand for. metrics: the default ones."""

    ddof: int
    metrics: tuple[str, ...]
    short_names: Mapping[str, str]


PRESETS: dict[str, Preset] = {
    "official": Preset(0, ("fid", "kid", "is", "pr"), {}),
    "adm": Preset(1, ("fid", "sfid", "is", "pr"), {"pr": "pr_inc"}),
    "clean": Preset(1, ("cleanfid",), {"fid": "cleanfid"}),
}
"""official: covariances over N, as the StyleGAN line's own code has them. adm: tables in the manner of
Dhariwal and Nichol (2021). clean: antialiased resizing (Parmar et al. 2022)."""
NO_PRESET = Preset(1, ("fid", "kid"), {})

_COUNT = r"[1-9]\d*k?"


def parse_metrics(
    names: str | Iterable[str], *, preset: str | None = None, **options: Any
) -> list[MetricSpec]:
    """Metrics of a list or a comma-separated text, each once; without any name, those of the preset."""
    listed = names.split(",") if isinstance(names, str) else list(names)
    listed = [name.strip() for name in listed if name.strip()] or list(find_preset(preset).metrics)
    specs = [parse_metric(name, preset=preset, **options) for name in listed]
    return list({spec.name: spec for spec in specs}.values())


def parse_metric(
    name: str, *, preset: str | None = None, local: str | None = None, default_count: int | None = None
) -> MetricSpec:
    """The metric of a name: fid, fid10k, fid10k_full, kid2k, fd_dinov2_50k, fd2k_random, fd_local:FOLDER.

    preset: one of PRESETS. local: folder of the network that fd_local measures with. default_count:
    generated images where the name has no count, instead of the papers'. `_vs_N` at the end takes N real
    images only.
    ValueError for other names, for counts below 2, and for fd_local without a folder.
    """
    settings = find_preset(preset)
    subset = None if ":" in name else re.fullmatch(rf"(.+)_vs_({_COUNT})", name)
    body = subset[1] if subset else name
    family, count, label = _known(body, settings) or _generic(body, local)
    spec = replace(family.spec(count or default_count, label), ddof=settings.ddof)
    if subset is None:
        return spec
    if not spec.needs_real:
        raise ValueError(f"metric {name} compares with no real pictures: leave _vs_{subset[2]} out")
    n_real = read_count(subset[2])
    return replace(spec, name=f"{spec.name}_vs_{format_count(n_real)}", n_real=n_real)


def find_preset(preset: str | None) -> Preset:
    """The preset of a name; ValueError for others."""
    if preset is None:
        return NO_PRESET
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}: use {', '.join(PRESETS)}")
    return PRESETS[preset]


def _known(name: str, settings: Preset) -> tuple[MetricFamily, int | None, str] | None:
    """Family and count of a metric of the papers; None for other names."""
    for key, family in FAMILIES.items():
        template = re.escape(family.template).replace(r"\{n\}", "{n}")
        patterns = [template.replace("{n}", f"({_COUNT})")]
        if "{n}3_" in template:
            patterns = [
                template.replace("{n}3_", r"([1-9]\d*k)3_"),
                template.replace("{n}3_", r"([1-9]\d*)_k3_"),
            ]
        for pattern in patterns:
            if found := re.fullmatch(pattern, name):
                return family, read_count(found[1]), ""
        if found := re.fullmatch(rf"{key}_?({_COUNT})?", name):
            return FAMILIES[settings.short_names.get(key, key)], _optional_count(found[1]), ""
    return None


def _generic(name: str, local: str | None) -> tuple[MetricFamily, int | None, str]:
    """Family with its extractor, count and label of a metric on any extractor; ValueError for other names."""
    found = re.fullmatch(rf"(fd|kd_full|kd|pr|cs|ppl)({_COUNT})?_(.+)", name)
    if found is None:
        raise ValueError(_unknown(name))
    kind, count, rest = found[1], found[2], found[3]
    tail = re.fullmatch(rf"(.+)_({_COUNT})", rest)
    if tail and ":" not in rest and rest not in EXTRACTOR_NAMES and count is None:
        rest, count = tail[1], tail[2]
    if rest == "local" and not local:
        raise ValueError(
            f"{name} needs a network: name its folder as {kind}_local:FOLDER, made by `sgxl-t features train`"
        )
    extractor = f"local:{local}" if rest == "local" else ALIASES.get(rest, rest)
    if ":" not in extractor and extractor not in EXTRACTOR_NAMES:
        raise ValueError(_unknown(name))
    if kind == "ppl" and ":" not in extractor:
        raise ValueError(
            f"{name} needs maps of a network and {extractor} gives none: use ppl, ppl_random, "
            "ppl_local:FOLDER or another reference such as ppl_timm:NAME"
        )
    output = next(iter(KNOWN[extractor].outputs)) if extractor in KNOWN else "pooled"
    family = replace(GENERIC[kind], extractor=extractor, output="" if kind in ("cs", "ppl") else output)
    return family, _optional_count(count), extractor_label(rest)


def extractor_label(reference: str) -> str:
    """How an extractor is called in the name of a metric: local, random, or its name in plain letters."""
    scheme, _, rest = reference.partition(":")
    if scheme == "local" or reference == ALIASES["random"]:
        return scheme
    return re.sub(r"[^a-z0-9]+", "_", (f"{scheme}_{rest}" if rest else scheme).lower()).strip("_")


def other_weights(spec: MetricSpec) -> MetricSpec:
    """The same measurement under another name: the published ones belong to the published weights alone."""
    heads = {
        "frechet": "fd",
        "kid": "kd",
        "kid_full": "kd_full",
        "precision_recall": "pr",
        "inception_score": "is",
    }
    label = spec.extractor + ("_spatial" if spec.output == "spatial" else "")
    name = f"{heads[spec.reduction]}_{label}_{format_count(spec.n_fake)}"
    if spec.resolution is not None:
        name += f"_coco{spec.resolution}"
    tail = re.search(rf"_vs_{_COUNT}$", spec.name)
    if spec.reduction == "precision_recall" and spec.n_real == 10_000 and not tail:
        name += "_vs_10k"
    return replace(spec, name=name + (tail[0] if tail else ""))


def read_count(text: str) -> int:
    """10k to 10000; ValueError below 2."""
    count = int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
    if count < 2:
        raise ValueError(f"a metric of {count} picture cannot be computed: ask for at least 2")
    return count


def _optional_count(text: str | None) -> int | None:
    return read_count(text) if text else None


def format_count(count: int) -> str:
    """10000 to 10k."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def _unknown(name: str) -> str:
    known = [*FAMILIES, *METRICS, *(f"fd_{label}" for label in (*ALIASES, *EXTRACTOR_NAMES, "local:FOLDER"))]
    close = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"use {', '.join(FAMILIES)} or fd_EXTRACTOR"
    return f"there is no metric {name!r}: {hint}"


METRICS: dict[str, MetricSpec] = {family.spec().name: family.spec() for family in FAMILIES.values()}
"""The metrics of the papers by canonical name; `parse_metric` knows them with any other count too."""
