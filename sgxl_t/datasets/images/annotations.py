"""Captions and labels of listed images, kept by image, each with where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sgxl_t.datasets.captions import clean_caption
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.terminal import visible

MAX_CAPTIONS = 1000
"""Captions that one image keeps; published sets have some hundred at most."""
MAX_CLASSES = 100_000
MAX_TABLE_BYTES = 2**30

Label = int | str


@dataclass
class Annotations:
    """Captions and labels by the image's path inside its folder or archive, with `/` between parts.

    captions: all different ones of an image, in the order found. Of several places that give an image
    captions or a label the first is taken; what the others say is counted as not used.
    named: the only place that captions are taken from; None takes them from any. no_labels, no_captions: what
    stands between what was found and labels or captions, and the way out (see ImageSource).
    """

    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    rejects: Rejects = field(default_factory=Rejects)
    named: str | None = None
    no_labels: str | None = None
    no_captions: str | None = None
    _bad: dict[str, list[RejectedItemError]] = field(default_factory=dict)
    _captions_from: dict[str, str] = field(default_factory=dict)
    _labels_from: dict[str, str] = field(default_factory=dict)

    def add_caption(self, name: str, caption: object, origin: str) -> None:
        """Keep a caption, or each of a list, behind the image's others; bad ones wait for `settle`."""
        taken = self.named or self._captions_from.get(name, origin)
        texts = caption if isinstance(caption, list) and caption else [caption]
        looked_at, beyond = texts[: 10 * MAX_CAPTIONS], len(texts) - 10 * MAX_CAPTIONS
        too_many = f"caption beyond the first {MAX_CAPTIONS} of its picture left out"
        if beyond > 0:
            self.rejects.notes[too_many] += beyond
        for one in looked_at:
            if taken != origin:
                self.pass_over_caption(name, taken, name, one)
                continue
            try:
                text = clean_caption(one, self.rejects)
            except RejectedItemError as error:
                self._bad.setdefault(name, []).append(error)
                continue
            kept = self.captions.get(name, ())
            if len(kept) == MAX_CAPTIONS:
                self.rejects.note(too_many)
            elif text not in kept:
                self.captions[name] = (*kept, text)
                self._captions_from[name] = origin

    def captions_from(self, name: str) -> str | None:
        """Where the captions of an image came from; None where it has none and may have some."""
        return self.named or self._captions_from.get(name)

    def pass_over_caption(self, name: str, taken: str, what: str, caption: object = None) -> None:
        """Count a caption, or a file of them, whose image has captions from `taken`; not when it says the
        same."""
        if caption is None or caption not in self.captions.get(name, ()):
            self.rejects.pass_over(f"caption of a picture whose captions come from {_base(taken)}", what)

    def reject_caption(self, name: str, error: RejectedItemError) -> None:
        """Keep in mind that a caption of an image is bad, for `settle`."""
        self._bad.setdefault(name, []).append(error)

    def settle(self) -> None:
        """Reject images that have bad captions alone; beside good ones they are left out and counted."""
        for name, errors in self._bad.items():
            if name not in self.captions:
                self.rejects.add(name, errors[0])
                continue
            for error in errors:
                self.rejects.note(f"{error.reason}, and its picture has others")
        self._bad.clear()

    def add_label(self, name: str, label: object, origin: str) -> None:
        """Keep an integer or named class; one-hot lists give their position."""
        if isinstance(label, list):
            label = _one_hot(name, label)
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
            self.rejects.add(name, RejectedItemError("label is no class", repr(label)[:100]))
            return
        if isinstance(label, int):
            _check_number(name, label)
        known = self.labels.setdefault(name, label)
        taken = self._labels_from.setdefault(name, origin)
        if known != label:
            self.rejects.pass_over(f"label of a picture that has another from {_base(taken)}", name)

    def labels_from(self) -> str:
        """Where the first labels came from."""
        return _base(next(iter(self._labels_from.values())))


def _base(origin: str) -> str:
    return PurePosixPath(origin).name


def _one_hot(name: str, label: list[object]) -> int:
    numbers = all(isinstance(value, int | float) and value in (0, 1) for value in label)
    ones = [index for index, value in enumerate(label) if value == 1]
    if not numbers or len(ones) != 1:
        raise ValueError(
            f"the label of {visible(repr(name))} is a list that is not one-hot: "
            "give class numbers or captions"
        )
    return ones[0]


def _check_number(name: str, label: int) -> None:
    shown = str(label) if abs(label) < 10**20 else "of more than 20 digits"
    if label < 0:
        raise ValueError(
            f"the label of {visible(repr(name))} is {shown}, and classes are numbered from 0 on: "
            "renumber the labels, or leave pictures without a class out"
        )
    if label >= MAX_CLASSES:
        raise ValueError(
            f"label {shown} is too large ({visible(repr(name))} has it, and there are at most {MAX_CLASSES} "
            "classes): number the classes from 0 on without gaps"
        )


def safe_name(name: object) -> str | None:
    """The path with `/` between parts, or None when it is absolute or leaves its folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    name = name.replace("\\", "/")
    parts = name.split("/")
    if all(parts) and not {".", ".."} & set(parts) and ":" not in parts[0]:
        return name
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        return None
    return str(path)
