"""The parts of a run's configuration, each with the ranges of its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sgxl_t.metrics.protocol import MetricSpec, format_count, parse_metric
from sgxl_t.training.config.ranges import check_decay, check_not_negative, check_positive, check_share


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images to learn from."""

    source: str = "digits"
    """Embedded set (digits, emoji-scenes:24x8, emoji-worlds:24x6), folder, StyleGAN zip, or webdataset
    shards: folder, pattern such as laion/{00000..00099}.tar, URL, pipe:COMMAND, or a .txt list of these with
    weights."""
    allow_pipe: bool = False
    """Shards: run the commands (pipe:COMMAND) that a list or this configuration names. Only the command line
    can say so; what stands in a file does not count."""
    mirror: bool = False
    """Add every picture's mirror image."""
    num_workers: int = 0
    """Loader processes per training process; 0 loads in the training process."""
    reject_limit: float = 0.1
    """Share of unreadable images, or shards, above which the run stops, 0 to 1."""
    caption_dropout: float = 0.0
    """Share of captions that are replaced by an empty text, 0 to 1."""
    alike: int = 1
    """Images of one class that stand together in the shuffled order; 1 mixes all. Batch norm in the heads
    then sees whether pictures of one class differ, which many classes in a batch hide. Not for shards."""
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

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_share("data", self, "caption_dropout", "reject_limit")
        check_not_negative("data", self, "num_workers")
        check_positive("data", self, "shuffle_samples", "alike")


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
    """Also train the generator's own copy of the text encoder."""
    own_text_encoder: str | None = None
    """The generator's own text encoder, such as local:RUN/last/text_encoder of an earlier run, or a word
    tower; discriminator and guidance stay with text_encoder. None takes text_encoder."""
    classifier: str = "auto:cnn"
    """Feature network with a classifier that guides the generator when objective.cls_weight is set."""
    feature_seconds: float = 120.0
    """Time limit for each local feature network that an `auto:` reference trains, in seconds."""

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("conditioning", self, "feature_seconds")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam for both networks."""

    g_lr: float = 0.002
    """Learning rate of the generator."""
    d_lr: float = 0.002
    """Learning rate of the discriminator's heads."""
    text_lr: float = 3e-6
    """Learning rate of the generator's text encoder when it is trained."""
    beta1: float = 0.0
    """Decay of Adam's first moment."""
    beta2: float = 0.99
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's divisor guard."""
    final_lr_share: float = 1.0
    """Learning rates fall linearly to this share over the last half of the run; 1 keeps them constant."""

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("optimizer", self, "g_lr", "d_lr", "text_lr", "eps")
        check_decay("optimizer", self, "beta1", "beta2")
        check_share("optimizer", self, "final_lr_share")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Images per update."""

    images: int = 64
    """Images of one update over all processes and rounds."""
    per_device: int | None = None
    """Images of one round on one process; smaller ones mean more rounds. None: all of a process's share.
    Rounds do not change the update but for the heads: batch norm and spectral norm act on each round."""

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("batch", self, "images", "per_device")


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Moving average of the generator, counted in images."""

    half_life_kimg: float = 10.0
    """Thousand images after which an old weight's share has halved."""
    rampup: float | None = 0.05
    """The half life is at most this share of the images seen; none switches the ramp off."""

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("ema", self, "half_life_kimg", "rampup")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long, and when something is written. All in thousand images unless named otherwise."""

    kimg: float = 25000.0
    """Length of the run."""
    max_minutes: float | None = None
    """Save and stop after this many minutes of this process; none has no limit."""
    fit_minutes: bool = False
    """Let the run be as long as fits max_minutes, counted from the start of the process: learning rates fall
    to their end, and a last snapshot is made, in time. kimg is then an estimate. A run that was stopped has
    new minutes when it goes on."""
    tick_kimg: float = 4.0
    """One line of numbers per tick."""
    snapshot_kimg: float = 200.0
    """Sample grid, tracked metric, last/ and best/."""
    snapshot_minutes: float | None = 10.0
    """Between snapshots, a preview (sample grid, last/) after so many minutes, the first after half a minute,
    and one when the run is stopped. It measures nothing and does not change training; none makes those of
    stops alone."""
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

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("schedule", self, "kimg", "max_minutes", "keep_checkpoints", "watchdog_minutes")
        check_positive("schedule", self, "snapshot_minutes")
        check_positive("schedule", self, "tick_kimg", "snapshot_kimg", "checkpoint_kimg", "max_skipped_steps")
        if self.fit_minutes and self.max_minutes is None:
            raise ValueError(
                "schedule.fit_minutes=true has no minutes to fit: set schedule.max_minutes, or leave it out"
            )


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
    metrics: tuple[str, ...] = ("fd_contrast", "pr_contrast")
    """Metrics at snapshots, named as for `sgxl-t evaluate`; the first chooses best/ and must fall."""
    track_source: str | None = None
    """Data that these metrics compare with and take labels or captions from, named as data.source, such as a
    small zero-shot set; none takes data.source without mirrored images."""
    track_images: int = 1000
    """Images per side of metrics whose names have no counts; 0 tracks none, and the newest is best."""

    def check(self) -> None:
        """Ranges; ValueError with the value, the rule and the way out."""
        check_positive("log", self, "grid_rows", "grid_columns")
        check_not_negative("log", self, "track_images")
        self.tracked_specs()

    def tracked_specs(self) -> list[MetricSpec]:
        """The metrics of snapshots, empty where none is tracked; ValueError as `tracked_specs`."""
        return tracked_specs(self.metrics, self.track_images) if self.track_images > 0 else []


def tracked_specs(names: Sequence[str], count: int) -> list[MetricSpec]:
    """The metrics of snapshots. Names without counts take `count` generated and as many real images.

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
            "such as fd_contrast"
        )
    return specs
