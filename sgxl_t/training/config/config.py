"""The configuration of a training run: one tree of frozen dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sgxl_t.networks import configs
from sgxl_t.networks.backbones.references import trained_kinds
from sgxl_t.networks.configs import DiscriminatorConfig, GeneratorConfig
from sgxl_t.networks.generators.synthesis_t import check_attention
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.training.config.auto_networks import AutoNetworks, FeaturesMode
from sgxl_t.training.config.compute_config import ComputeConfig
from sgxl_t.training.config.parts import (
    BatchConfig,
    ConditioningConfig,
    DataConfig,
    EmaConfig,
    LogConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from sgxl_t.training.config.settings import FrozenParts, HealthSettings, NetworkSettings
from sgxl_t.training.config.stage_config import StageConfig, check_stages


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
    features: FeaturesMode = "auto"
    """What `auto:` names among feature networks and text encoders. local: small ones that the run trains on
    its own images. pretrained: published ones, from the hub or its cache. auto: published ones where these
    can be had, else local ones; for sets that ship with the package always local ones."""
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
    """Run folder whose newest checkpoint gives weights and optimiser states, as far as they fit, or a model
    whose generator is trained on: a folder, such as RUN/best, demo_text of the package, or a Hub id. Its
    generator's settings hold where none are given. Counters start at zero. None: from random weights."""
    freeze_generator: bool = False
    """Keep the generator as it is, so that only its text encoder learns (StyleGAN-T, section 3.3)."""
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
        parts = (self.data, self.generator, self.discriminator, self.conditioning, self.optimizer)
        for part in (*parts, self.batch, self.ema, self.compute, self.schedule, self.log):
            part.check()
        self._check_growing()
        self._check_attention()
        self._check_instances()
        if self.schedule.plateau and not self.log.tracked_specs():
            raise ValueError(
                "schedule.plateau=true stops by a tracked metric and there is none: set log.track_images to "
                "1000"
            )
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
        self._check_frozen()
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

    def _check_instances(self) -> None:
        count = self.generator.stylegan_t.instances
        if count < 0:
            raise ValueError(f"generator.stylegan_t.instances={count} must not be negative: use 0 or 8192")
        if count and (self.generator.family != "stylegan_t" or self.cond != "text"):
            raise ValueError(
                f"generator.stylegan_t.instances={count} remembers pictures beside captions, and this run "
                f"has cond={self.cond} and generator.family={self.generator.family}: use 0, or cond=text and "
                "stylegan_t"
            )
        larger = self.generator.stylegan_t.exaggeration
        if larger < 0 or (larger and not count):
            raise ValueError(
                f"generator.stylegan_t.exaggeration={larger:g} makes the differences that instances={count} "
                "remembers larger by this share: use 0, or 0.5 with instances of 8192"
            )
        if self.objective.following_weight > 0 and not count:
            raise ValueError(
                f"objective.following_weight={self.objective.following_weight:g} needs a generator that is "
                "told of pictures: use 0, or set generator.stylegan_t.instances to 8192"
            )
        if count and self.conditioning.train_text_encoder:
            raise ValueError(
                f"generator.stylegan_t.instances={count} remembers captions as they are read at the start, "
                "which conditioning.train_text_encoder=true would change: use one of the two"
            )

    def _check_frozen(self) -> None:
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

    def with_networks(self, named: AutoNetworks) -> TrainConfig:
        """The same with what `auto:` stands for in its place, as far as that is a published network."""
        discriminator, conditioning = self.discriminator, self.conditioning
        family, sides = (
            discriminator.family,
            (discriminator.projected.input_size, discriminator.dino.input_size),
        )
        projected = replace(discriminator.projected, input_size=named.side_for("projected", family, sides[0]))
        dino = replace(discriminator.dino, input_size=named.side_for("dino", family, sides[1]))
        features = tuple(named.in_place(family, name) for name in discriminator.features)
        changed = replace(
            self,
            features=named.features or self.features,
            discriminator=replace(discriminator, features=features, projected=projected, dino=dino),
            conditioning=replace(
                conditioning,
                class_features=named.in_place("class", conditioning.class_features),
                text_encoder=named.in_place("text", conditioning.text_encoder),
            ),
            stages=tuple(
                replace(stage, overrides=named.in_overrides(stage.overrides, family)) for stage in self.stages
            ),
        )
        changed.check()
        return changed

    # What others take of it ------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, lists instead of tuples, as YAML and JSON hold it."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

        return plain(asdict(self))

    def network_settings(self) -> NetworkSettings:
        """What the run's networks are made from."""
        return NetworkSettings(
            cond=self.cond,
            generator=self.generator,
            discriminator=self.discriminator,
            conditioning=self.conditioning,
            objective=self.objective,
            frozen=FrozenParts(
                generator=self.freeze_generator,
                stem=self.freeze_stem or self.stem is not None,
                stem_input=self.freeze_input,
                below=self.freeze_below,
                lowres_torgb=not self.train_lowres_torgb,
            ),
            stem=self.stem,
            start=self.start,
            checkpoint_from=self.compute.checkpoint_from,
            seed=self.seed,
        )

    def health_settings(self) -> HealthSettings:
        """What the rules of a run's health depend on."""
        return HealthSettings(
            cond=self.cond,
            family=self.generator.family,
            objective=self.objective,
            ema=self.ema,
            text_encoder=self.conditioning.text_encoder,
            diff_augment=bool(self.discriminator.diff_augment),
            mirror=self.data.mirror,
            num_workers=self.data.num_workers,
            freeze_generator=self.freeze_generator,
            mapping_learns=self.stem is None and self.freeze_below is None and not self.freeze_generator,
            started=self.start is not None,
            kimg=self.schedule.kimg,
            blurred_kimg=self.objective.blur_fade_kimg if self.objective.blur_init_sigma > 0 else 0.0,
            uses_noise=self.generator.family == "stylegan_t" and self.generator.stylegan_t.use_noise,
        )
