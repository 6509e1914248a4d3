"""The configuration of a training run: one tree of frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sgxl_t.metrics.protocol import MetricSpec, format_count, parse_metric
from sgxl_t.networks import configs
from sgxl_t.networks.backbones.references import trained_kinds
from sgxl_t.networks.configs import DiscriminatorConfig, GeneratorConfig
from sgxl_t.networks.generators.synthesis_t import check_attention
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.training.config.compute_config import ComputeConfig
from sgxl_t.training.config.ranges import check_ranges
from sgxl_t.training.config.stage_config import StageConfig, check_stages


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures to learn from."""

    source: str = "digits"
    """Embedded set (digits, emoji-scenes:24x8), folder, StyleGAN zip, or webdataset shards: folder, pattern
    such as laion/{00000..00099}.tar, URL, pipe:COMMAND, or a .txt list of these with weights."""
    allow_pipe: bool = False
    """Shards: run the commands (pipe:COMMAND) that a list or this configuration names. Only the command line
    can say so; what stands in a file does not count."""
    mirror: bool = False
    """Add every picture's mirror image."""
    num_workers: int = 0
    """Loader processes per training process; 0 loads in the training process."""
    reject_limit: float = 0.1
    """Share of unreadable pictures, or shards, above which the run stops, 0 to 1."""
    caption_dropout: float = 0.0
    """Share of captions that are replaced by an empty text, 0 to 1."""
    caption_fields: tuple[str, ...] = ()
    """Shards: where captions come from, txt or fields of the json, one at random for each sample; empty takes
    txt, else the field caption."""
    filter: str | None = None
    """Shards: samples to keep, such as "similarity > 0.3 and min_side >= 64"; fields of the json or of a
    parquet beside the shards. None keeps all."""
    order: Literal["auto", "epochs", "resample"] = "auto"
    """Shards: epochs shows every sample once per epoch, resample draws shards with replacement by the weights
    of their subsets; auto resamples lists with weights."""
    shuffle_samples: int = 1000
    """Shards: encoded samples that each reader holds to draw from."""
    fast_jpeg: bool = True
    """Shards: decode large JPEGs at a half, quarter or eighth of their size, to twice what is needed."""


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """Networks that turn labels or captions into numbers."""

    class_features: str = "auto:cnn"
    """Feature network whose pooled class means start the class table."""
    class_table: str | None = None
    """File whose rows start the class table instead, such as the published .pkl for ImageNet, .npy or
    .safetensors; none computes it with class_features."""
    text_encoder: str = "auto:clip"
    """Text encoder that conditions the networks: a CLIP, T5 or SigLIP by reference, or several joined by +.
    The first CLIP among them guides the generator when objective.clip_weight is set."""
    train_text_encoder: bool = False
    """Also train the generator's own copy of the text tower."""
    own_text_encoder: str | None = None
    """The generator's own text encoder, where it learnt from text_encoder in an earlier run, such as
    local:RUN/last/text_encoder. None takes text_encoder."""
    classifier: str = "auto:cnn"
    """Feature network with a classifier that guides the generator when objective.cls_weight is set."""
    feature_seconds: float = 120.0
    """Time limit for each local feature network that an `auto:` reference trains, in seconds."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam for both networks."""

    g_lr: float = 0.002
    """Learning rate of the generator."""
    d_lr: float = 0.002
    """Learning rate of the discriminator's heads."""
    text_lr: float = 3e-6
    """Learning rate of the generator's text tower when it is trained."""
    beta1: float = 0.0
    """Decay of Adam's first moment."""
    beta2: float = 0.99
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's divisor guard."""
    final_lr_share: float = 1.0
    """Learning rates fall linearly to this share over the last half of the run; 1 keeps them constant."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Images per update."""

    images: int = 64
    """Images of one update over all processes and rounds."""
    per_device: int | None = None
    """Images of one round on one process; smaller ones mean more rounds. None: all of a process's share.
    Rounds do not change the update but for the heads: batch norm and spectral norm act on each round."""


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Moving average of the generator, counted in images."""

    half_life_kimg: float = 10.0
    """Thousand images after which an old weight's share has halved."""
    rampup: float | None = 0.05
    """The half life is at most this share of the images seen; none switches the ramp off."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long, and when something is written. All in thousand images unless named otherwise."""

    kimg: float = 25000.0
    """Length of the run."""
    max_minutes: float | None = None
    """Save and stop after this many minutes of this process; none has no limit."""
    tick_kimg: float = 4.0
    """One line of numbers per tick."""
    snapshot_kimg: float = 200.0
    """Sample grid, tracked metric, last/ and best/."""
    checkpoint_kimg: float = 200.0
    """Everything to resume exactly."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept."""
    watchdog_minutes: float | None = 30.0
    """End the run, naming the process that hangs, when one has not gone on for so long; none never does."""
    max_skipped_steps: int = 20
    """Steps in a row left out, for numbers that are not finite, after which the run goes back to its newest
    checkpoint, and after which it stops when that did not help."""
    plateau: bool = False
    """Stop when the first of log.metrics has come to rest over its last 20 snapshots."""


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is shown while training."""

    tensorboard: bool = True
    """Write scalars and sample grids as TensorBoard events."""
    progress: bool = True
    """Show a progress bar."""
    grid_rows: int = 8
    """Conditions in the sample grid, at most."""
    grid_columns: int = 8
    """Latents per condition in the sample grid."""
    metrics: tuple[str, ...] = ("fd_random",)
    """Metrics at snapshots, named as for `sgxl-t evaluate`; the first chooses best/ and must fall."""
    track_source: str | None = None
    """Data that these metrics compare with and take labels or captions from, named as data.source, such as a
    small zero-shot set; none takes data.source without mirrored pictures."""
    track_images: int = 1000
    """Images per side of metrics whose names have no counts; 0 tracks none, and the newest is best."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    cond: configs.ConditionName = "class"
    """What conditions the generator: class, text or none."""
    run_dir: str | None = None
    """Folder of the run; none takes runs/<cond>-<data>. The same folder resumes."""
    seed: int = 0
    """Seed of every random stream."""
    deterministic: bool = False
    """Use deterministic algorithms only; slower on a GPU."""
    data: DataConfig = field(default_factory=DataConfig)
    """Pictures."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Generator."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """Discriminator."""
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    """Condition encoders."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Losses."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimisers."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Batch sizes."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average of the generator."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Speed and memory of an update."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Length and intervals."""
    log: LogConfig = field(default_factory=LogConfig)
    """Logging."""
    stem: str | None = None
    """Model folder whose layers a generator with heads keeps, frozen; none trains all layers."""
    start: str | None = None
    """Run folder whose newest checkpoint gives weights and optimiser states, as far as they fit, or model
    folder, such as RUN/best, whose generator is trained on; counters start at zero. None starts from random
    weights."""
    freeze_generator: bool = False
    """Keep the generator as it is, so that only its text tower learns (StyleGAN-T, section 3.3)."""
    freeze_below: int | None = None
    """Keep mapping and blocks below this side of a stylegan_t generator as they are; none trains all."""
    train_lowres_torgb: bool = True
    """With freeze_below, still train the image outputs of the lower blocks, as the release does."""
    freeze_stem: bool = False
    """Keep mapping and layers below the newest head as a checkpoint or start brings them, as stem does."""
    freeze_input: bool = True
    """Also keep the stem's Fourier input as it is; false trains it with the head, as the release does."""
    stages: tuple[StageConfig, ...] = ()
    """Progressive growing: stages from low to high, trained one after the other in RUN/stage_*."""
    stage: str | None = None
    """Train only the stage of this name, its resolution where it has none; none goes through all of them."""

    def folder(self) -> Path:
        """Folder of the run."""
        name = Path(self.data.source.replace(":", "-")).stem or "data"
        return Path(self.run_dir) if self.run_dir else Path("runs") / f"{self.cond}-{name}"

    def check(self) -> None:
        """Cross-field rules; raises ValueError with the value, the rule and the way out."""
        check_ranges(self)
        self.compute.check()
        self._check_growing()
        self._check_attention()
        if self.log.track_images > 0:
            tracked_specs(self.log.metrics, self.log.track_images)
        if self.cond != "text" and self.conditioning.train_text_encoder:
            raise ValueError(
                f"conditioning.train_text_encoder=true needs cond=text, not cond={self.cond}: "
                "set --cond text or switch it off"
            )
        if self.discriminator.family == "dino" and len(self.discriminator.features) != 1:
            raise ValueError(
                f"discriminator.features={list(self.discriminator.features)} names "
                f"{len(self.discriminator.features)} networks, the dino family takes exactly one vision "
                "transformer: name one, for example '[auto:vit]'"
            )

    def _check_growing(self) -> None:
        side, heads = self.generator.img_resolution, self.generator.stylegan3.superres
        family = self.generator.family
        check_stages(self.stages, family=family, base=side, stem=self.stem, only=self.stage)
        self._check_resting()
        if self.start and self.stages and family == "stylegan3":
            raise ValueError(
                f"start={self.start} beside stages that grow by heads: name the model to grow on in stem"
            )
        if self.stem and family != "stylegan3":
            raise ValueError(
                f"stem={self.stem} with generator.family={family}: only stylegan3 grows from a stem, "
                "name a run folder in start instead"
            )
        if self.stages and not self.stem and heads:
            raise ValueError(
                "generator.stylegan3.superres is set beside stages, which make the heads themselves: "
                "leave it out"
            )
        if self.objective.stem_weight > 0 and not self.stem and not self.stages:
            raise ValueError(
                f"objective.stem_weight={self.objective.stem_weight} needs a generator to grow on: "
                "name one in stem, list stages, or leave it out"
            )
        if self.objective.stem_weight > 0 and not self.freeze_input:
            raise ValueError(
                f"objective.stem_weight={self.objective.stem_weight} with freeze_input=false: the stem's "
                "pictures hold only while its input rests, leave one of the two out"
            )
        if self.stem and self.cond == "text" and trained_kinds(self.conditioning.text_encoder):
            raise ValueError(
                f"conditioning.text_encoder={self.conditioning.text_encoder} would train an encoder "
                f"other than the stem's: name the stem's, for example local:{self.stem}/text_encoder"
            )
        if self.stem and not self.stages and not heads:
            raise ValueError(
                f"stem={self.stem} needs a generator with a head: add generator.stylegan3.superres, or stages"
            )

    def _check_attention(self) -> None:
        asked = list(self.generator.stylegan_t.attention_resolutions)
        if not asked:
            return
        if self.generator.family != "stylegan_t":
            raise ValueError(
                f"generator.stylegan_t.attention_resolutions={asked} needs generator.family=stylegan_t, not "
                f"{self.generator.family}: leave it empty"
            )
        if self.cond != "text":
            raise ValueError(
                f"generator.stylegan_t.attention_resolutions={asked} attends to the words of captions and "
                f"needs cond=text, not cond={self.cond}: set --cond text or leave it empty"
            )
        if not self.stages:
            check_attention(self.generator)

    def _check_resting(self) -> None:
        heads = self.generator.family == "stylegan3" and self.generator.stylegan3.superres
        if self.freeze_stem and (not heads or self.stages):
            raise ValueError(
                "freeze_stem=true needs one stylegan3 generator with a head: leave it out, stages keep what "
                "is below their heads anyway"
            )
        if self.freeze_generator and not self.conditioning.train_text_encoder:
            raise ValueError(
                "freeze_generator=true leaves nothing to train: set conditioning.train_text_encoder as well"
            )
        if self.freeze_below is not None and self.generator.family != "stylegan_t":
            raise ValueError(
                f"freeze_below={self.freeze_below} needs generator.family=stylegan_t: leave it out, "
                "stylegan3 keeps its lower layers by stem and stages"
            )
        if self.conditioning.own_text_encoder is not None and self.cond != "text":
            raise ValueError(
                f"conditioning.own_text_encoder={self.conditioning.own_text_encoder} needs cond=text, "
                f"not cond={self.cond}: leave it out"
            )

    def round_images(self, num_processes: int) -> int:
        """Images of one round on each process."""
        return self.batch.per_device or max(1, self.batch.images // num_processes)

    def rounds(self, num_processes: int) -> int:
        """Accumulation rounds per update on each process; ValueError when the batch does not split evenly."""
        chunk = num_processes * self.round_images(num_processes)
        if self.batch.images % chunk:
            raise ValueError(
                f"batch.images={self.batch.images} does not split over {num_processes} processes of "
                f"{self.round_images(num_processes)}: use a multiple of {chunk}"
            )
        return self.batch.images // chunk


def tracked_specs(names: Sequence[str], count: int) -> list[MetricSpec]:
    """The metrics of snapshots. Names without counts take `count` generated and as many real pictures.

    A name that ends in _full, or in _vs_N, keeps its own real side. Raises ValueError for unknown names and
    for a first metric that rises.
    """
    specs = []
    for name in names:
        spec = parse_metric(name, default_count=count)
        if spec.needs_real and not name.endswith("_full") and "_vs_" not in spec.name:
            limit = spec.n_fake if spec.n_real is None else min(spec.n_real, spec.n_fake)
            spec = replace(spec, name=f"{spec.name}_vs_{format_count(limit)}", n_real=limit)
        specs.append(spec)
    if specs and not specs[0].lower_is_better:
        raise ValueError(
            f"log.metrics begins with {names[0]}, which rises with quality: put one first that falls, "
            "such as fd_random"
        )
    return specs
