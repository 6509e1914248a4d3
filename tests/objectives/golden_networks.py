"""Builds the small reference networks of the loss cases from their stored states."""

from __future__ import annotations

import torch
from golden_cases import descriptions, state_of
from official_names_t import BACKBONE
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sgxl_t.model_io.published.generator_t import generator_state_from_official_t
from sgxl_t.model_io.published.names import generator_from_official
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.image_backbones import ImageBackbone
from sgxl_t.networks.configs import (
    ConditionSpec,
    DinoConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    ProjectedConfig,
    StyleGAN3Config,
    StyleGANTConfig,
    SuperresStage,
)
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.discriminators.discriminator_t import DinoHeads, TokenFeatures
from sgxl_t.networks.discriminators.discriminator_xl import ProjectedHeads
from sgxl_t.networks.discriminators.projector import ProjectedFeatures
from sgxl_t.networks.generators.generator import Generator

TEXT = ConditionSpec(kind="text", dim=768)
CLASSES = ConditionSpec(kind="class", dim=12, num_classes=5)


def xl_generator(case: str) -> Generator:
    """The stem or superres generator that a case names, with its stored weights."""
    superres = descriptions()[case]["ctor"].get("stem") is not None
    ctor = descriptions()["xl_stem16"]["ctor"]
    sizes = StyleGAN3Config(
        w_dim=ctor["w_dim"],
        embed_proj_dim=ctor["z_dim"],
        num_layers=ctor["num_layers"],
        channel_base=ctor["channel_base"],
        channel_max=ctor["channel_max"],
        superres=(SuperresStage(head_layers=7, up_factor=2),) if superres else (),
    )
    config = GeneratorConfig(img_resolution=32 if superres else 16, z_dim=ctor["z_dim"], stylegan3=sizes)
    generator = Generator(config, CLASSES)
    generator.load_state_dict(generator_from_official(state_of(case), CLASSES))
    return generator.train()


def t_generator() -> Generator:
    """The small StyleGAN-T generator of the stored cases."""
    ctor = descriptions()["t_generator64"]["ctor"]
    kwargs = ctor["synthesis_kwargs"]
    sizes = StyleGANTConfig(
        channel_base=kwargs["channel_base"],
        channel_max=kwargs["channel_max"],
        num_res_blocks=kwargs["num_res_blocks"],
        norm_groups=kwargs["gn_groups"],
        conv_clamp=ctor["conv_clamp"],
    )
    config = GeneratorConfig(
        family="stylegan_t", img_resolution=ctor["img_resolution"], z_dim=ctor["z_dim"], stylegan_t=sizes
    )
    generator = Generator(config, TEXT)
    generator.load_state_dict(generator_state_from_official_t(state_of("t_generator64")))
    return generator.train()


def t_discriminator() -> tuple[TokenFeatures, DinoHeads]:
    """The small token discriminator of the stored cases: frozen features and heads in training mode."""
    ctor = descriptions()["t_projected_d"]["ctor"]
    state = state_of("t_projected_d")
    vit = VisionTransformer(**ctor["vit"])
    vit.load_state_dict({k.removeprefix(BACKBONE): v for k, v in state.items() if k.startswith(BACKBONE)})
    network = FeatureNetwork(
        "stored", vit, input_size=ctor["input_size"], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    dino = DinoConfig(crop_probability=ctor["p_crop"])
    config = DiscriminatorConfig(family="dino", features=("stored",), dino=dino)
    features = TokenFeatures(network, config, 64)
    heads = DinoHeads(config, TEXT, features.channels, features.n_heads)
    heads.load_state_dict({k: v for k, v in state.items() if not k.startswith(BACKBONE)})
    return features, heads.train()


def augmentation_draws(case: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Recorded draws for one batch that is put together from the named parts."""
    names = [key.removeprefix(prefixes[0]) for key in case if key.startswith(prefixes[0])]
    return {name: torch.cat([case[prefix + name] for prefix in prefixes]) for name in names}


class StubCnn(ImageBackbone):
    """Four convolutions without activation, as in the stored projected discriminator."""

    kind = "cnn"

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        widths = [3, *channels]
        kernels = (4, 2, 2, 2)
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernels[i], stride=kernels[i]) for i in range(4)
        )
        self.channels, self.embed_dim = tuple(channels), channels[-1]

    def pooled(self, x: Tensor) -> Tensor:
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x: Tensor) -> list[Tensor]:
        results = []
        for layer in self.layers:
            x = layer(x)
            results.append(x)
        return results


def xl_discriminator(img_resolution: int) -> tuple[ProjectedFeatures, ProjectedHeads, list[str]]:
    """The small projected discriminator of the stored cases, and its backbones' names in order."""
    ctor, state = descriptions()["xl_projected_d"]["ctor"], state_of("xl_projected_d")
    names = ctor["backbones"]
    networks = []
    for name in names:
        tower = StubCnn(ctor["backbone_channels"][name])
        prefix = f"feature_networks.{name}.pretrained.layer"
        tower.layers.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if name.endswith("b0") else ((0.5,) * 3,) * 2
        networks.append(FeatureNetwork(name, tower, mean=moments[0], std=moments[1]))
    sizes = ProjectedConfig(cout=ctor["cout"], expand=ctor["expand"], head_width=ctor["ndf"])
    config = DiscriminatorConfig(features=tuple(names), projected=sizes)
    discriminator = build_discriminator(config, CLASSES, img_resolution, networks=networks)
    scratch, heads = {}, {}
    for index, name in enumerate(names):
        for prefix, target, ours in (
            (f"feature_networks.{name}.scratch.", scratch, f"{index}.scratch."),
            (f"discriminators.{name}.", heads, f"networks.{index}."),
        ):
            target |= {ours + k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    discriminator.features.projections.load_state_dict(scratch, strict=False)
    discriminator.heads.load_state_dict(heads)
    return discriminator.features, discriminator.heads.train(), names
