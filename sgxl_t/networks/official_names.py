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
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sgxl_t.networks.configs import ConditionSpec

CLASS_TABLE = "mapping.embed.weight"
"""The one name whose content may differ."""


def generator_from_official(state: Mapping[str, Tensor], condition: ConditionSpec) -> dict[str, Tensor]:
    """An official StyleGAN-XL generator's state dict as ours takes it.

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
