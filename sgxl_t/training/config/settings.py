"""What parts of the framework need to know of a run's configuration, as small values."""

from __future__ import annotations

from dataclasses import dataclass

from sgxl_t.networks.configs import ConditionName, DiscriminatorConfig, GeneratorConfig
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.training.config.compute_config import ComputeConfig
from sgxl_t.training.config.parts import ConditioningConfig, EmaConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class FrozenParts:
    """Parts of a generator that a run leaves as they are."""

    generator: bool = False
    """All of it."""
    stem: bool = False
    """Mapping and layers below the newest head of a stylegan3 generator."""
    stem_input: bool = True
    """With stem, its Fourier input as well."""
    below: int | None = None
    """Mapping and blocks of a stylegan_t generator below this side; none for no block."""
    lowres_torgb: bool = False
    """With below, the image outputs of these blocks as well."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What the networks of a run are made from."""

    cond: ConditionName
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    conditioning: ConditioningConfig
    objective: ObjectiveConfig
    frozen: FrozenParts
    stem: str | None
    """Model folder that the generator grows on."""
    start: str | None
    """Run or model folder that the run begins from."""
    checkpoint_from: int | None
    """The generator's layers from this side up are computed again in the backward pass."""
    seed: int

    @property
    def classifier(self) -> str | None:
        """Reference of the network that guides by classes; None where none does."""
        guided = self.cond == "class" and self.objective.cls_weight > 0
        return self.conditioning.classifier if guided else None

    @property
    def clip_guides(self) -> bool:
        """Whether the image tower of a text encoder guides."""
        return self.cond == "text" and self.objective.clip_weight > 0

    @property
    def pictures_read(self) -> bool:
        """Whether a text encoder's image tower is needed: it guides, or the generator remembers pictures."""
        return self.clip_guides or (self.cond == "text" and self.generator.stylegan_t.instances > 0)


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """What the rules of a run's health, and the advice that they give, depend on."""

    cond: ConditionName
    family: str
    """Of the generator."""
    objective: ObjectiveConfig
    ema: EmaConfig
    text_encoder: str
    diff_augment: bool
    """Whether images are augmented before the discriminator."""
    mirror: bool
    """Whether the data has its mirror images as well."""
    num_workers: int
    freeze_generator: bool
    """Only the generator's text encoder learns."""
    mapping_learns: bool
    """Beside a stem, or where lower blocks are frozen, the mapping is another run's."""
    started: bool
    """Whether it began from another run or model, whose sizes it keeps."""
    kimg: float
    """Length of the run, thousand images."""
    blurred_kimg: float
    """Until then, in thousand images, the discriminator sees blurred images."""
    uses_noise: bool
    """Whether the generator has noise inputs."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What of the configuration the loop itself reads.

    images: of one update, which splits into `rounds` micro-batches of `round_images` on every process.
    """

    images: int
    rounds: int
    round_images: int
    schedule: ScheduleConfig
    final_lr_share: float
    compute: ComputeConfig
