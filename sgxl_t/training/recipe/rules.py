"""Every number by which a recipe is chosen. Change one here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

MINUTES = 60.0
"""Length of a run where neither minutes nor kimg are given."""
MIN_PICTURES = 8
"""Fewer cannot train the feature networks that the discriminator looks through."""

# What the data must be for a condition to teach something -------------------------------------------------

TEXT_PICTURES = 300
"""Captions of fewer pictures are learnt by heart, one picture each."""
TEXT_SHARED = 0.5
"""Share of the pictures whose captions must have a word in common with others: words that one picture alone
has name that picture and nothing that could be asked for."""
SHARING_PICTURES, SHARING_SHARE = 5, 0.5
"""A word is in common when so many pictures have it, and no more than this share of all, as "a" and "of"."""
CLASS_PICTURES = 20
"""Pictures a class needs, and nine of ten classes must have."""

REPEATED_SHARE = 0.08
"""A picture that makes up more of the data is told: seeds that look alike are right then."""

# Sides and widths ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """A resolution, the generator's feature maps for it, and what it asks for.

    px: side of the images. channel_base, channel_max: of the stylegan_t generator; maps at resolution r are
    min(base // r, max). kimg: length in thousand images below which a smaller side gives better images.
    """

    px: int
    channel_base: int
    channel_max: int
    kimg: float


CPU_SIDES = (
    Side(8, 512, 64, 0),
    Side(16, 1024, 64, 0),
    Side(32, 1024, 128, 0),
    Side(64, 2048, 128, 400),
)
GPU_SIDES = (
    Side(8, 1024, 128, 0),
    Side(16, 2048, 128, 0),
    Side(32, 4096, 256, 0),
    Side(64, 8192, 256, 150),
    Side(128, 16384, 256, 600),
    Side(256, 32768, 512, 1500),
)
MIN_TRIED = 32
"""Sides below this are taken only where the pictures are no larger; they are not measured against it."""
STEP = 2.5
"""A side twice as large trains at least so many times slower: sides out of reach are not measured."""

# Updates ---------------------------------------------------------------------------------------------------

USE_NOISE = False
"""Noise inputs of small networks end as grain on the images."""
G_LR, D_LR, FINAL_LR_SHARE = 0.015, 0.002, 0.2
BATCH = 32
EMA_KIMG, EMA_SHARE = 5.0, 0.1
"""Half life of the average: so many thousand images, or this share of the run where that is less."""
AUGMENTATION = ((500, "color,translation,cutout"), (None, "translation,cutout"))
"""Augmentation before the discriminator by the number of pictures, up to each limit (DiffAugment takes all
three for a hundred pictures)."""
CLASS_DIVERSITY = 0.1
"""Weight of the mode seeking term for classes, whose seeds share a shape without it. Pictures without a
condition vary by themselves; with captions it costs more of what the caption says than it gives."""

# A start ---------------------------------------------------------------------------------------------------

START = "demo_text"
"""What runs begin with on a CPU where the discriminator looks through a published network: from random
weights such a discriminator leaves a handful of pictures, with this start it is ahead of all else
(docs/experiments/own-pictures.md)."""
START_G_LR, START_ALONE_KIMG = 0.01, 1.0
"""Rate of the generator, and thousand images that fresh heads learn alone."""

# Time ------------------------------------------------------------------------------------------------------

FEATURE_SHARE = 0.1
"""Share of the minutes that local feature networks train, at most, and between these seconds."""
FEATURE_SECONDS = (5.0, 600.0)
START_SECONDS = 15.0
"""From the command to the first update beside features and reading: libraries, networks, first sheets."""
SNAPSHOTS = 12
"""Sample grid, tracked metric and models so often in a run, evenly spaced."""
PREVIEW_MINUTES = 10.0
"""Between two previews at most; less in runs that are shorter than SNAPSHOTS of these."""
TICKS = 200
"""Lines of numbers in a run."""
SNAPSHOT_SECONDS, SNAPSHOT_IMAGES = 3.0, 0.5
"""What a snapshot takes: so long, and as if so many images were trained for each that it measures."""
TRACKED = 1000
"""Images of the tracked metric, at most."""
END_SHARE = 0.03
"""Share of the minutes left over for the last snapshot, and for a machine that is a little slower."""
WORKERS = 4
"""Loader processes on a GPU for pictures that do not fit into memory."""

# Measuring -------------------------------------------------------------------------------------------------

LOOKED_AT = 200
"""Pictures that are opened for colours, captions of shards and the time that reading takes."""
LOOK_SECONDS = 4.0
"""Limit of that look; at least a few pictures are opened."""
WARM_UPDATES, TIMED_SECONDS, MOST_UPDATES = 2, 3.0, 40
"""Updates before the clock runs (two or more), and how long it runs for each side that is tried."""
TRIAL_FEATURE_SECONDS = 1.0
"""Features of a trial train so long, which says how fast they train."""
