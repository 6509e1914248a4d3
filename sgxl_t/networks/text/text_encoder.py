"""Captions to unit vectors: the interface of every text encoder, and several encoders as one."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.networks.backbones.precision import Precision
from sgxl_t.networks.text.tokens import TextTokens
from sgxl_t.networks.weights.stored import CONFIG, write_json

MOST_COUNTED = 10_000


class ImageGuide(Protocol):
    """A CLIP with an image tower, as guidance of a generator sees it."""

    image_size: int
    """Side of the images that its tower takes, in pixels."""
    precision: Precision

    def encode_image(self, images01: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1], resized and normalised by itself, to unit vectors [N, dim]."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor:
        """Captions to unit vectors [N, dim] of the same space."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As `nn.Module.to`."""


class TextEncoder(nn.Module, ABC):
    """One text tower with its tokenizer; as loaded, frozen and in eval mode.

    dim: width of its vectors. token_dim: width of the tokens behind them, 0 where they cannot be had.
    reference: the name under which the same weights can be had again (`open_clip:...`, `transformers:...`);
    None where a folder must hold them, because they were trained here.
    """

    dim: int
    token_dim: int = 0
    reference: str | None = None
    _hash: str | None = None

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Captions to unit vectors [N, dim], float32. Callers that repeat captions keep the result."""

    @abstractmethod
    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """Unit vectors [N, dim] and the last states, both float32, in one pass; needs a token_dim."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Captions to the token numbers that the tower reads, int64 [N, context_length], padded.

        context_length: another number of tokens than the tower's own.
        """

    @property
    @abstractmethod
    def context_length(self) -> int:
        """Tokens of a caption that the tower reads, with those for its start and end."""

    @abstractmethod
    def text_copy(self) -> TextEncoder:
        """An independent float32 copy of what reads text, without a reference: it is going to learn."""

    @abstractmethod
    def write_text(self, folder: Path) -> None:
        """Writes the weights of the text tower and what else builds it again, without any pickle."""

    def save_text(self, folder: Path | str) -> None:
        """Writes what `load_stored_text` reads: a reference with the weights' hash, else the weights."""
        folder = Path(folder)
        if self.reference is None:
            self.write_text(folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        about = {"reference": self.reference, "dim": self.dim, "weights": self.weights_hash()}
        write_json(folder / CONFIG, {"format": 1, "kind": "reference", **about})

    def unknown_words(self, texts: Sequence[str]) -> dict[str, str]:
        """Words that no caption of the training has, as far as the encoder knows these captions, each with
        what becomes of it: "nearest: fox", "read like fox", "no effect", or "" where that is not known.

        Empty for pretrained towers.
        """
        return {}

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Which texts are longer than the tower's context, so that what their ends say changes nothing.

        One token more of room shows it for every tokenizer: another token comes in, at the end or before the
        token that ends a caption.
        """
        if not texts:
            return []
        length = self.context_length
        more = self.tokenize([*texts, ""], length + 1)
        more, padding = more[:-1], more[-1, -1]
        cut = more[:, length - 1] != padding  # or just as long as the context
        if full := [text for text, long in zip(texts, cut.tolist(), strict=True) if long]:
            differ = (self.tokenize(full) != more[cut][:, :length]).any(dim=1)
            cut[cut.clone()] = differ | (more[cut][:, length] != padding)
        return cut.tolist()

    def cut_note(self, captions: Iterable[str]) -> str | None:
        """How many captions are longer than the context, in words for a log; None where none is.

        The first 10,000 different ones count, which a tokenizer reads in a few seconds.
        """
        different = list(islice(dict.fromkeys(captions), MOST_COUNTED))
        count = sum(self.cut(different))
        if not count:
            return None
        are = "caption is" if count == 1 else "captions are"
        return (
            f"{count} {are} longer than the context of {self.context_length} tokens and were cut, of "
            f"{len(different)} that were looked at"
        )

    def unread(self, texts: Sequence[str]) -> list[str]:
        """The end of each text that does not fit into the context, from the first word not read whole.

        "" where all of it is read.
        """
        return [self._end(text) if cut else "" for text, cut in zip(texts, self.cut(texts), strict=True)]

    def _end(self, text: str) -> str:
        """What follows the shortest beginning of `text` with the same tokens, found by halving."""
        tokens, low, high = self.tokenize([text]), 0, len(text)
        while low < high:
            middle = (low + high) // 2
            same = torch.equal(tokens, self.tokenize([text[:middle]]))
            low, high = (low, middle) if same else (middle + 1, high)
        word = re.search(r"[a-z']{1,30}$", text[:low], re.IGNORECASE)
        inside = word is not None and text[low : low + 1].isalpha()
        return text[word.start() if word and inside else low :].strip()

    def text_parameters(self) -> list[nn.Parameter]:
        """Parameters of the text tower, its embeddings and projection."""
        return list(self.parameters())

    @property
    def pretrained(self) -> bool:
        """Whether it is a published network, large enough that its work is worth keeping."""
        return self.reference is not None

    @property
    def guide(self) -> ImageGuide | None:
        """The CLIP whose image tower can guide a generator; None without one."""
        return None

    @property
    def guide_columns(self) -> slice:
        """Where the vectors of `guide` stand in ours."""
        return slice(0, self.dim)

    @property
    def picture_dim(self) -> int:
        """Width of what its image tower gives for pictures; ValueError without one for all its texts."""
        if self.guide is None or self.guide_columns != slice(0, self.dim):
            raise ValueError(
                f"the text encoder {self.reference or 'of this run'} has no image tower of its own, which "
                "generator.stylegan_t.instances looks at pictures through: name one CLIP by "
                "conditioning.text_encoder, such as auto:clip, or leave instances out"
            )
        return self.dim

    def weights_hash(self) -> str:
        """Sixteen hex digits over the text tower's weights; computed once, while they are frozen.

        Names do not count, since libraries rename them between versions; numbers, shapes and types do.
        """
        parameters = self.text_parameters()
        assert not any(parameter.requires_grad for parameter in parameters), "weights that learn have no hash"
        if self._hash is None:
            digests = sorted(_digest(parameter) for parameter in parameters)
            self._hash = hashlib.sha256(b"".join(digests)).hexdigest()[:16]
        return self._hash


class JoinedEncoders(TextEncoder):
    """Several encoders read the same captions; their unit vectors stand side by side, again of unit length.

    Each part so has the same weight, however wide it is. dim is the sum of the parts' dims. The first part
    with an image tower guides. Tokens are those of the first part alone: others have other widths.
    """

    def __init__(self, parts: Sequence[TextEncoder]) -> None:
        super().__init__()
        assert len(parts) > 1
        self.parts = nn.ModuleList(parts)
        self.dim = sum(part.dim for part in parts)
        self.token_dim = parts[0].token_dim

    @property
    def encoders(self) -> list[TextEncoder]:
        """The parts in order."""
        return [part for part in self.parts if isinstance(part, TextEncoder)]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """The parts' vectors side by side, normalised: [N, dim]."""
        return self._joined([part.encode_text(texts) for part in self.encoders])

    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """Vectors [N, dim] of all parts, tokens of the first part."""
        first, *others = self.encoders
        vectors, tokens = first.encode_with_tokens(texts)
        return self._joined([vectors, *(part.encode_text(texts) for part in others)]), tokens

    @staticmethod
    def _joined(vectors: Sequence[Tensor]) -> Tensor:
        return F.normalize(torch.cat([v.to(vectors[0].device) for v in vectors], dim=1), dim=-1)

    def tokenize(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """The parts' tokens side by side, int64 [N, sum of their context lengths]."""
        return torch.cat([part.tokenize(texts, context_length) for part in self.encoders], dim=1)

    @property
    def context_length(self) -> int:
        """Of the part that reads most."""
        return max(part.context_length for part in self.encoders)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Which texts no part reads to their end."""
        parts = [part.cut(texts) for part in self.encoders]
        return [all(cut) for cut in zip(*parts, strict=True)]

    def unread(self, texts: Sequence[str]) -> list[str]:
        """What no part reads."""
        parts = [part.unread(texts) for part in self.encoders]
        return [min(ends, key=len) for ends in zip(*parts, strict=True)]

    def text_copy(self) -> JoinedEncoders:
        """See `TextEncoder.text_copy`."""
        return JoinedEncoders([part.text_copy() for part in self.encoders])

    def write_text(self, folder: Path) -> None:
        """Writes every part into a folder of its own, part_0, part_1 and so on."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"part_{number}" for number in range(len(self.parts))]
        for name, part in zip(names, self.encoders, strict=True):
            part.save_text(folder / name)
        write_json(folder / CONFIG, {"format": 1, "kind": "joined", "parts": names})

    def unknown_words(self, texts: Sequence[str]) -> dict[str, str]:
        """Words that no part knows, with what becomes of them in the first."""
        first, *others = [part.unknown_words(texts) for part in self.encoders]
        return {word: fate for word, fate in first.items() if all(word in unknown for unknown in others)}

    def text_parameters(self) -> list[nn.Parameter]:
        """The parameters of all parts, in their order."""
        return [parameter for part in self.encoders for parameter in part.text_parameters()]

    @property
    def pretrained(self) -> bool:
        """Whether any part is."""
        return any(part.pretrained for part in self.encoders)

    @property
    def guide(self) -> ImageGuide | None:
        """The guide of the first part that has one."""
        return next((part.guide for part in self.encoders if part.guide is not None), None)

    @property
    def guide_columns(self) -> slice:
        """Columns of the joined vectors that belong to the guiding part; all without one."""
        start = 0
        for part in self.encoders:
            if part.guide is not None:
                return slice(start, start + part.dim)
            start += part.dim
        return slice(0, self.dim)

    def weights_hash(self) -> str:
        """Over the parts' hashes, in their order."""
        together = "+".join(part.weights_hash() for part in self.encoders)
        return hashlib.sha256(together.encode()).hexdigest()[:16]


def _digest(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {list(values.shape)}".encode())
    digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
