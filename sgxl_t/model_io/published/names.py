"""Names of StyleGAN-XL's released generators and ours.

Ours are the official ones: `mapping.{w_avg,embed.weight,embed_proj.*,fc0.*,fc1.*}`,
`synthesis.input.{weight,affine.*,transform,freqs,phases}` and
`synthesis.<layer>.{weight,bias,affine.*,magnitude_ema,up_filter,down_filter}` with `<layer>` =
L<index>_<side>_<channels>, one index left free between a stem and its first head. Two contents differ, both
in the class table `mapping.embed.weight`:

* official unconditional networks store a table that nothing reads; ours have none;
* official tables always hold the 1000 ImageNet rows, of which a data set with fewer classes uses the first
ones;
  ours have one row per class.

Of a discriminator `discriminators.<network>.mini_discs...` are our heads `networks.<index>.mini_discs...`,
`feature_networks.<network>.scratch...` our mixing `<index>.scratch...`, and the random adapters that sit
among a transformer's own layers as `pretrained.layer<k>.{3,4}` our `<index>.adapter.layer<k>.{0,1}`. What
else lies in `feature_networks` is the pretrained network, which timm has too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import timm
from torch import Tensor

from sgxl_t.networks.configs import ConditionSpec

CLASS_TABLE = "mapping.embed.weight"
"""The one name whose content may differ."""

FEATURES = {"tf_efficientnet_lite": "in1k", "deit_": "fb_in1k", "resnet": "tv_in1k", "wide_resnet": "tv_in1k"}
"""Families of networks that files of the release name, by how their names begin: the weights that timm has of
them. The release's own are tf_efficientnet_lite0 and deit_base_distilled_patch16_224."""


def generator_from_official(state: Mapping[str, Tensor], condition: ConditionSpec) -> dict[str, Tensor]:
    """An official StyleGAN-XL generator's state dict as ours takes it, the class table cut to [classes, dim].

    ValueError when its class table has fewer rows than `condition` has classes.
    """
    ours = dict(state)
    table = ours.pop(CLASS_TABLE, None)
    if condition.kind == "class" and table is not None:
        if len(table) < condition.num_classes:
            raise ValueError(
                f"the class table has {len(table)} rows for {condition.num_classes} classes: "
                "give as many classes as the network was trained with"
            )
        ours[CLASS_TABLE] = table[: condition.num_classes]
    return ours


def feature_reference(network: str) -> str:
    """Our reference of a feature network as a file names it; ValueError for an unknown one.

    Older files number them, as in `tf_efficientnet_lite0_0`.
    """
    for name in (network, re.sub(r"_[0-9]$", "", network)):
        for family, weights in FEATURES.items():
            if name.startswith(family) and timm.is_model(name) and timm.list_pretrained(f"{name}.{weights}"):
                return f"timm:{name}.{weights}"
    raise ValueError(
        f"feature network {network[:60]!r} is not one that timm has the release's weights of: "
        f"use a file trained with networks called {', '.join(f'{family}...' for family in FEATURES)}"
    )


def head_name(official: str, networks: Sequence[str]) -> str | None:
    """Our name, inside ProjectedHeads, of a discriminator's tensor; none for one that belongs to no head."""
    match = re.fullmatch(r"discriminators\.(\w+)\.(mini_discs\..+)", official)
    return f"networks.{networks.index(match[1])}.{match[2]}" if match and match[1] in networks else None


def projection_name(official: str, networks: Sequence[str]) -> str | None:
    """Our name, inside the projections of ProjectedFeatures, of a discriminator's tensor; none for the
    pretrained networks themselves."""
    match = re.fullmatch(r"feature_networks\.(\w+)\.(.+)", official)
    if match is None or match[1] not in networks:
        return None
    index, inside = networks.index(match[1]), match[2]
    if inside.startswith("scratch."):
        return f"{index}.{inside}"
    adapter = re.fullmatch(r"pretrained\.(layer[1-4])\.([34])\.(weight|bias)", inside)
    return f"{index}.adapter.{adapter[1]}.{int(adapter[2]) - 3}.{adapter[3]}" if adapter else None


def heads_from_official(state: Mapping[str, Tensor], condition: ConditionSpec) -> dict[str, Tensor]:
    """Tensors of heads under our names; class tables [rows, dim] keep as many rows as there are classes."""
    return {
        name: value[: condition.num_classes] if name.endswith(".embed.weight") else value
        for name, value in state.items()
    }
