"""The smallest run of each kind, as command line arguments."""

from __future__ import annotations

from pathlib import Path

COMMON = {
    "features": "local",
    "generator.img_resolution": 16,
    "generator.z_dim": 16,
    "generator.stylegan3.w_dim": 16,
    "generator.stylegan3.num_layers": 4,
    "generator.stylegan3.channel_base": 128,
    "generator.stylegan3.channel_max": 8,
    "generator.stylegan3.margin_size": 1,
    "generator.stylegan_t.channel_base": 128,
    "generator.stylegan_t.channel_max": 8,
    "generator.stylegan_t.num_res_blocks": 1,
    "generator.stylegan_t.norm_groups": 4,
    "discriminator.dino.taps": "[0, 1]",
    "discriminator.projected.final_upsample": "false",
    "discriminator.projected.expand": "false",
    "discriminator.projected.cout": 8,
    "discriminator.projected.head_width": 8,
    "discriminator.projected.end_size": 4,
    "discriminator.projected.input_size": "null",
    "batch.images": 8,
    "batch.per_device": 8,
    "objective.share_fakes": "false",
    "objective.clip_weight": 0,
    "schedule.kimg": 0.016,
    "schedule.tick_kimg": 0.008,
    "schedule.snapshot_kimg": 0.016,
    "schedule.checkpoint_kimg": 0.008,
    "log.track_images": 16,
    "log.grid_rows": 2,
    "log.grid_columns": 2,
    "log.tensorboard": "false",
    "log.progress": "false",
}


def tiny_run(
    folder: Path,
    features: Path,
    /,
    *,
    cond: str = "class",
    generator: str = "stylegan_t",
    discriminator: str = "projected",
    **settings: object,
) -> list[str]:
    """Arguments of a run of two updates. features: holds cnn/, vit/, clip/. settings: a__b for a.b."""
    kinds = {"projected": "cnn", "dino": "vit"}
    values = {
        **COMMON,
        "cond": cond,
        "run_dir": folder,
        "data.source": "emoji-scenes:4x4" if cond == "text" else "digits",
        "generator.family": generator,
        "discriminator.family": discriminator,
        "discriminator.features": f'["local:{features / kinds[discriminator]}"]',
        "conditioning.class_features": f"local:{features / 'cnn'}",
        "conditioning.text_encoder": f"local:{features / 'clip'}",
        "conditioning.classifier": f"local:{features / 'cnn'}",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]
