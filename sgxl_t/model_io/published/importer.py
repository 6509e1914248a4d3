"""From a file of either release to a model folder: read, check, name where it came from, write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.files.pickles.values import RefusedError
from sgxl_t.files.terminal import visible
from sgxl_t.model_io.published.discriminator import StoredDiscriminator, read_discriminator
from sgxl_t.model_io.published.file import OfficialFile
from sgxl_t.model_io.published.generator import read_generator
from sgxl_t.model_io.published.generator_t import is_generator_t, read_generator_t, read_text_encoder
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.clip import ClipModel

LICENCE = (
    "not Apache-2.0: the terms of whoever published the weights hold; those of the StyleGAN-XL release allow "
    "no commercial use of parts of it"
)
LICENCE_T = (
    "not Apache-2.0: the terms of whoever published the weights hold, and those of the StyleGAN-T release"
)
"""What the card says unless the user names a licence."""
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NEEDED = {"G_ema": "the average generator", "G": "the generator in training", "D": "the discriminator"}
"""What each network of a file is."""


def refused(file: OfficialFile, which: str, error: RefusedError) -> ValueError:
    """The error for a network of a file that cannot be read."""
    advice = "name a snapshot that has it as the release's training writes it"
    if which != "G_ema":
        advice = "leave --training-state out to import the average generator alone"
    return ValueError(
        f"{file.path} {visible(error)}, needed for {NEEDED[which]} ({which}): nothing was written, {advice}"
    )


def check_training_state(file: OfficialFile, generator: Generator) -> dict[str, float]:
    """The counters of a file that training can go on from; ValueError for any other. generator: the file's
    average one."""
    missing = [name for name in ("G", "D") if file.content.get(name) is None]
    if missing:
        raise ValueError(
            f"{file.path} holds no training state (no {' and no '.join(missing)}): nothing was written, "
            "leave --training-state out to import the average generator alone"
        )
    if generator.config.family != "stylegan3":
        raise ValueError(
            f"{file.path} holds a StyleGAN-T network and --training-state goes on with those of StyleGAN-XL: "
            "nothing was written, leave --training-state out to import the average generator alone"
        )
    return file.progress()


def import_generator(file: OfficialFile, *, which: str = "G_ema") -> Generator:
    """The average generator of a file, or the raw one (`which`="G")."""
    try:
        module = file.network(which)
        read = read_generator_t if is_generator_t(module) else read_generator
        return read(module, limit=file.size)
    except RefusedError as error:
        raise refused(file, which, error) from None


def import_text_encoder(file: OfficialFile) -> ClipModel | None:
    """The text encoder of a StyleGAN-T file's average generator; none where it has none."""
    try:
        module = file.network("G_ema")
        return read_text_encoder(module, limit=file.size) if is_generator_t(module) else None
    except RefusedError as error:
        raise refused(file, "G_ema", error) from None


def import_discriminator(file: OfficialFile, spec: ConditionSpec) -> StoredDiscriminator:
    """Heads and frozen random layers of a file's D, for a generator with condition `spec`."""
    try:
        return read_discriminator(file.network("D"), spec, limit=file.size)
    except RefusedError as error:
        raise refused(file, "D", error) from None


def condition_for(
    spec: ConditionSpec, names: Sequence[str] | None, data: str, encoder: ClipModel | None = None
) -> Condition:
    """The condition of a generator. names: of the classes; none takes ImageNet's, CIFAR-10's or numbers.
    encoder: of texts, where the generator takes them.

    ValueError when the number of names is not the number of classes.
    """
    if spec.kind != "class":
        if names is not None:
            raise ValueError("class names were given and the network has no classes: leave --labels out")
        return NoCondition() if encoder is None else TextCondition(encoder)
    if names is None:
        names = _known_names(spec.num_classes, data)
    if len(names) != spec.num_classes:
        raise ValueError(
            f"{len(names)} class names were given and the network has {spec.num_classes} classes: "
            "give one per class, in the order of the labels"
        )
    return ClassCondition(names, dim=spec.dim)


def _known_names(count: int, data: str) -> list[str]:
    if count == 1000:
        from timm.data import ImageNetInfo

        table = ImageNetInfo()
        return [table.index_to_description(index, detailed=False) for index in range(count)]
    if count == len(CIFAR10) and "cifar" in data.lower():
        return list(CIFAR10)
    return [str(index) for index in range(count)]


def provenance(file: OfficialFile, generator: Generator, licence: str | None) -> dict[str, Any]:
    """Where the weights come from and under which terms, for the card and `config.json`."""
    xl = generator.config.family == "stylegan3"
    release = "StyleGAN-XL" if xl else "StyleGAN-T"
    facts: dict[str, Any] = {
        "data": file.data_name(),
        "licence": licence or (LICENCE if xl else LICENCE_T),
        "source": {"file": file.path.name, "sha256": file.fingerprint, "bytes": file.size},
        "imported": f"the average generator (G_ema) of a {release} pickle, read without running its code",
    }
    reached = file.kimg()
    if reached is not None:
        facts["kimg"] = reached
    return facts
