"""Classes of samples: what label a sample has, and which classes there are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgxl_t.datasets.decode import Bounds
from sgxl_t.datasets.images.annotations import MAX_CLASSES, Label
from sgxl_t.datasets.images.wordnet_names import spoken_names
from sgxl_t.datasets.rejects import Rejects
from sgxl_t.datasets.shards.class_files import WAY_OUT, find_class_names, folders_to_search
from sgxl_t.datasets.shards.look import Look, look_at
from sgxl_t.datasets.shards.tar.samples import LABEL_ENDINGS, Group, group_name, json_of
from sgxl_t.datasets.tables.columns import LABEL_COLUMNS, label_of, pick, plain
from sgxl_t.files.terminal import visible

log = logging.getLogger(__name__)

LABELLED_SHARE, LABELLED_BESIDE_CAPTIONS = 0.5, 0.9
"""Share of samples that have a label where labels are classes; without captions, and beside them."""
NUMBERS_SHARE = 0.9
"""Share of whole numbers among labels that are numbers; a few broken ones make no names of the others."""
MAX_NAME_CHARS = 200
FREE_TEXTS = 1000
"""More different labels than this are texts about single images when most samples have their own."""


@dataclass(frozen=True)
class Classes:
    """names: of the classes, in order. origin: where they come from, for people. texts: the labels that stand
    for them in the samples, where these are not the names.
    """

    names: tuple[str, ...]
    origin: str
    texts: tuple[str, ...] = ()

    def index(self, label: Label) -> int | None:
        """The class of a label, a number or a name; None where it is none."""
        if isinstance(label, int):
            return label if 0 <= label < len(self.names) else None
        return self._by_text.get(label)

    @cached_property
    def _by_text(self) -> dict[str, int]:
        texts = self.texts or self.names
        twice = {text for text, count in Counter(texts).items() if count > 1}
        return {text: number for number, text in enumerate(texts) if text not in twice}


def label_in(group: Group) -> Label | None:
    """The label of a sample: the text of `cls`, or a field of its json; None where it has none."""
    value: Any = next((group[ending] for ending in LABEL_ENDINGS if group.get(ending)), None)
    if isinstance(value, bytes):
        value = value.decode("utf-8-sig", "replace")
    else:
        value = pick({plain(key): field for key, field in json_of(group).items()}, ("cls", *LABEL_COLUMNS))
    value = label_of({"label": value})
    if isinstance(value, list) and value.count(1) == 1 and value.count(0) == len(value) - 1:
        return value.index(1)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return " ".join(value.split())[:MAX_NAME_CHARS] or None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count_classes(look: Look, *, has_captions: bool) -> Classes | str:
    """The classes of the labels that were seen; or why they are none, and the way out."""
    labels, seen = look.labels, look.labels.total()
    if seen < (LABELLED_BESIDE_CAPTIONS if has_captions else LABELLED_SHARE) * look.samples:
        return f"{look.samples - seen} of {look.samples} samples have no label: complete or remove them"
    whole = {label: count for label, count in labels.items() if isinstance(label, int)}
    if sum(whole.values()) >= NUMBERS_SHARE * seen:
        numbers = [label for label in whole if 0 <= label < MAX_CLASSES]
        if not numbers:
            return f"the labels are not classes from 0 to {MAX_CLASSES - 1}: renumber them"
        count = max(numbers) + 1
        missing = count - len(numbers)
        few = f", of which {missing} do not occur" if missing else ""
        return Classes(tuple(map(str, range(count))), f"counted in {look.extent()}{few}")
    texts = tuple(sorted({str(label) for label in labels}))
    if len(texts) > MAX_CLASSES or (len(texts) > FREE_TEXTS and 2 * len(texts) > seen):
        return f"{len(texts)} of {seen} labels are different texts and no classes: number them, or {WAY_OUT}"
    return Classes(spoken_names(texts), f"counted in {look.extent()}", texts)


def find_classes(
    reference: str,
    local: Sequence[str],
    bounds: Bounds,
    first: Sequence[Group],
    rejects: Rejects,
    *,
    has_captions: bool,
) -> Classes | str:
    """The classes of shards; or why they have none, and the way to some.

    local: the shards that are files, whose headers are looked at; what nobody uses of them is counted in
    `rejects`. first: their first samples. ValueError for class files that are none, or disagree.
    """
    labelled = any(label_in(group) is not None for group in first)
    seen = look_at(local, bounds, label_in, labelled=labelled) if local else None
    if seen is not None:
        for reason, found in seen.unused.unused.items():
            rejects.unused[reason if seen.whole else f"{reason}, in {seen.extent()}"] = found
    named = find_class_names(folders_to_search(reference, (Path(shard).parent for shard in local)))
    if not labelled:
        if named is not None:
            rejects.pass_over("class file of shards without labels", str(named[1]))
        return _without_labels(first)
    if named is not None:
        return Classes(named[0], str(named[1]))
    answer = _REMOTE if seen is None else count_classes(seen, has_captions=has_captions)
    if isinstance(answer, str):
        for group in first:
            if label_in(group) is not None:
                rejects.pass_over("label of the first samples, which have no classes", group_name(group))
        return f"labels were found in the shards and are not used, since {answer}"
    log.info("%s: %d classes, %s", reference, len(answer.names), answer.origin)
    return answer


_REMOTE = f"shards behind URLs and commands are not counted: {WAY_OUT}"


def _without_labels(first: Sequence[Group]) -> str:
    held = sorted({ending for group in first for ending in group if ending[0] != "_"})
    return (
        f"the first samples hold {visible(', '.join(held))} and no label: put the class of each NAME.jpg, "
        'a number or a name, into NAME.cls or the field "label" of NAME.json, or train with another condition'
    )
