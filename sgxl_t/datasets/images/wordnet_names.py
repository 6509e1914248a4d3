"""Words for the WordNet numbers by which ImageNet calls its classes."""

from __future__ import annotations

import re
from collections.abc import Sequence


def spoken_names(names: Sequence[str]) -> tuple[str, ...]:
    """WordNet numbers such as n02099601 as words ("golden retriever"), from timm's ImageNet tables.

    Other names, and sets of names with a number that the tables do not know, stay as they are. Numbers in
    their order are ImageNet's order of classes, so the whole set keeps the labels that classifiers use.
    """
    if not names or not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return tuple(names)
    from timm.data import ImageNetInfo

    table = ImageNetInfo("imagenet-1k")
    try:
        return tuple(table.label_name_to_description(name) for name in names)
    except KeyError:
        return tuple(names)
