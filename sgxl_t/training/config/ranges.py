"""Ranges of single settings of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgxl_t.networks.generators.generator import check_channels
from sgxl_t.ops.diff_augment import parse_policy

if TYPE_CHECKING:
    from sgxl_t.training.config.config import TrainConfig


def check_ranges(config: TrainConfig) -> None:
    """Raises ValueError with the value, the rule and the way out."""
    if config.schedule.plateau and (config.log.track_images <= 0 or not config.log.metrics):
        raise ValueError(
            "schedule.plateau=true stops by a tracked metric and there is none: set log.track_images to 1000"
        )
    resolution = config.generator.img_resolution
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(
            f"generator.img_resolution={resolution} is no power of two of at least 8: "
            "use 16, 32, 64, 128, 256, 512 or 1024"
        )
    check_channels(config.generator.img_channels)
    parse_policy(config.discriminator.diff_augment)
    kernel = config.discriminator.projected.csm_kernel
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"discriminator.projected.csm_kernel={kernel} has no middle: use 1 or 3")
    _check_shares(config)
    _check_positive(config)


def _check_shares(config: TrainConfig) -> None:
    shares = {
        "data.caption_dropout": config.data.caption_dropout,
        "data.reject_limit": config.data.reject_limit,
        "optimizer.final_lr_share": config.optimizer.final_lr_share,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is no share: use a number from 0 to 1")
    decays = {"optimizer.beta1": config.optimizer.beta1, "optimizer.beta2": config.optimizer.beta2}
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} is no decay: use a number from 0 to below 1")
    counts = {"data.num_workers": config.data.num_workers, "log.track_images": config.log.track_images}
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name}={value} must not be below 0: use 0 or more")


def _check_positive(config: TrainConfig) -> None:
    minutes = config.schedule.watchdog_minutes
    positive = {
        "data.shuffle_samples": config.data.shuffle_samples,
        "batch.images": config.batch.images,
        "batch.per_device": 1 if config.batch.per_device is None else config.batch.per_device,
        "schedule.kimg": config.schedule.kimg,
        "schedule.tick_kimg": config.schedule.tick_kimg,
        "schedule.snapshot_kimg": config.schedule.snapshot_kimg,
        "schedule.checkpoint_kimg": config.schedule.checkpoint_kimg,
        "schedule.keep_checkpoints": config.schedule.keep_checkpoints,
        "schedule.watchdog_minutes": 1 if minutes is None else minutes,
        "schedule.max_skipped_steps": config.schedule.max_skipped_steps,
        "ema.half_life_kimg": config.ema.half_life_kimg,
        "optimizer.g_lr": config.optimizer.g_lr,
        "optimizer.d_lr": config.optimizer.d_lr,
        "optimizer.text_lr": config.optimizer.text_lr,
        "optimizer.eps": config.optimizer.eps,
        "log.grid_rows": config.log.grid_rows,
        "log.grid_columns": config.log.grid_columns,
        "conditioning.feature_seconds": config.conditioning.feature_seconds,
        "ema.rampup": 1 if config.ema.rampup is None else config.ema.rampup,
        "schedule.max_minutes": 1 if config.schedule.max_minutes is None else config.schedule.max_minutes,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be greater than 0: choose a positive number")
