"""A small text tower of our own that understands words it never saw, fitted to a large sentence encoder."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.files.config_json import config_from_value
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.text.blocks import Transformer
from sgxl_t.networks.text.spelled import SpelledWords, word_number
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.tokens import TextTokens
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.networks.weights.hub import Weights
from sgxl_t.networks.weights.modest import is_modest
from sgxl_t.networks.weights.stored import load_fitting, read_json, write_json, write_stored

KIND = "words"
VOCABULARY = "names.json"
MAX_NAMES = 50_000
MOST_WORDS = 3
"""Of what stands for a name."""
COMPARED = 1000
"""Names, the commonest, among which the nearest of a word is looked for."""
SAME = 0.98
"""A word has no effect where a prompt with it and without it have at least this cosine: verbs and such, which
a tower is taught to read over, stay above .98, and words that a picture may show below .97."""
_LIMITS = {"dim": 4096, "rows": 1 << 20, "word_width": 4096, "width": 4096, "layers": 64, "max_words": 512}


@dataclass(frozen=True, kw_only=True)
class WordTowerConfig:
    """Sizes of a word tower."""

    dim: int = 96
    """Width of its vectors."""
    rows: int = 12_288
    """Rows of the table of words' parts."""
    word_width: int = 64
    """Width of a row."""
    width: int = 96
    """Width of a token in the blocks."""
    heads: int = 4
    """Attention heads."""
    layers: int = 2
    """Transformer blocks."""
    max_words: int = 32
    """Words of a caption that are read."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= limit:
                raise ValueError(f"{name}={value} of a word tower must be a whole number from 1 to {limit}")
        if not isinstance(self.heads, int) or self.heads < 1 or self.width % self.heads:
            raise ValueError(f"heads={self.heads} of a word tower must divide its width={self.width}")


@dataclass(frozen=True)
class Names:
    """What the captions of a model say.

    names: of what can be drawn and how, one to three words each. others: words around them, such as "with",
    and rare ones. far: the cosine to the nearest name below which a word is not read like that name. means:
    other words for names, and the name that each is read as.
    """

    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    far: float = 0.0
    means: Mapping[str, str] = field(default_factory=dict)

    def in_names(self, text: str) -> str:
        """The text with names in place of other words for them, the longest first; else as it is."""
        parts = self._parts(text)
        said = " ".join(self.means.get(part, part) for part in parts)
        return said if any(part in self.means for part in parts) else text

    def other_words_in(self, text: str) -> dict[str, str]:
        """The words of the text that are read as a name, with that name."""
        return {part: self.means[part] for part in self._parts(text) if part in self.means}

    def _parts(self, text: str) -> list[str]:
        """Words, and in place of several the longest other word that they are."""
        words = split_words(text)
        found: list[str] = []
        at = 0
        while at < len(words):
            parts = (" ".join(words[at : at + length]) for length in range(MOST_WORDS, 0, -1))
            found.append(next((part for part in parts if part in self.means), words[at]))
            at += len(found[-1].split())
        return found


class WordNetwork(nn.Module):
    """Spelled words, a transformer that looks at all of a caption, and the mean of what comes out."""

    def __init__(self, config: WordTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.words = SpelledWords(config.rows, config.word_width)
        self.widen = nn.Linear(config.word_width, config.width)
        self.positions = nn.Parameter(torch.randn(config.max_words, config.width) * 0.01)
        self.transformer = Transformer(config.width, config.heads, config.layers)
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.dim)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """Vectors [N, dim], of any length, and the last states [N, L, width]."""
        words, mask = self.words(texts, self.config.max_words)
        states = self.widen(words) + self.positions[: words.shape[1]]
        states = self.norm(self.transformer(states, mask))
        weights = mask.to(states).unsqueeze(-1)
        mean = (states * weights).sum(1) / weights.sum(1)
        return self.project(mean), TextTokens(states, mask)


class WordTower(TextEncoder):
    """A word network behind captions, with the words that its captions are made of.

    vocabulary: where a prompt has a word that it lacks, a note says what becomes of that word.
    meta: how it was fitted.
    """

    def __init__(
        self, config: WordTowerConfig, vocabulary: Names | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.network = WordNetwork(config)
        self.vocabulary, self.meta = vocabulary or Names(), meta or {}
        self.dim, self.token_dim = config.dim, config.width

    @property
    def config(self) -> WordTowerConfig:
        """Its sizes."""
        return self.network.config

    @property
    def context_length(self) -> int:
        """See `TextEncoder.context_length`: words, one of them for the end."""
        return self.config.max_words + 1

    def tokenize(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """See `TextEncoder.tokenize`: a number of each word, which only tells it from others."""
        length = context_length or self.context_length
        tokens = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = split_words(self.vocabulary.in_names(text))
            numbers = [word_number(word) for word in words[: length - 1]]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return tokens

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder.encode_text`."""
        return F.normalize(self._read(texts)[0].float(), dim=-1)

    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """See `TextEncoder.encode_with_tokens`."""
        vectors, tokens = self._read(texts)
        return F.normalize(vectors.float(), dim=-1), TextTokens(tokens.values.float(), tokens.mask)

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        read: tuple[Tensor, TextTokens] = self.network([self.vocabulary.in_names(text) for text in texts])
        return read

    def for_captions(self, captions: Iterable[str] | None, *, other_words: bool) -> WordTower:
        """The same tower, whose vocabulary is what the captions of a run say.

        captions: all of them, or None where they are too many to be known; no word is unknown then.
        other_words: whether other words for names are kept, those for names in the captions. Without them
        each word means itself.
        """
        counts = Counter(word for text in captions or () for word in split_words(text))
        around = dict.fromkeys(self.vocabulary.others)
        said = [word for word, _ in counts.most_common(MAX_NAMES) if word not in around]
        names, rare = said[:COMPARED], said[COMPARED : MAX_NAMES - len(around)]
        means = {
            word: name
            for word, name in self.vocabulary.means.items()
            if other_words and (captions is None or counts.keys() >= set(split_words(name)))
        }
        other = copy.copy(self)
        other.vocabulary = replace(self.vocabulary, names=tuple(names), others=(*around, *rare), means=means)
        return other

    def text_copy(self) -> WordTower:
        """See `TextEncoder.text_copy`."""
        tower = copy.deepcopy(self)
        tower.reference, tower._hash = None, None
        return tower.float()

    @torch.no_grad()
    def unknown_words(self, texts: Sequence[str]) -> dict[str, str]:
        """See `TextEncoder.unknown_words`; none without names."""
        names, known = self.vocabulary.names, set(self.vocabulary.others)
        known |= {word for name in names for word in split_words(name)}
        said = [split_words(self.vocabulary.in_names(text)) for text in texts]
        asked = list(dict.fromkeys(word for words in said for word in words if word not in known))
        if not names:
            return {}
        read_as = [self.vocabulary.other_words_in(text) for text in texts]
        other = {word: f"read like {name}" for found in read_as for word, name in found.items()}
        if not asked:
            return other
        cosines, index = nearest(self, asked, names)
        like = [
            f"{'read like' if cosine >= self.vocabulary.far else 'nearest:'} {names[number]}"
            for cosine, number in zip(cosines.tolist(), index.tolist(), strict=True)
        ]
        return other | {
            word: "no effect" if self._has_no_effect(word, said) else near
            for word, near in zip(asked, like, strict=True)
        }

    def _has_no_effect(self, word: str, texts: Sequence[list[str]]) -> bool:
        """Whether those of the texts that hold the word, given as words, say the same without it."""
        having = [words for words in texts if word in words and set(words) != {word}]
        without = [" ".join(other for other in words if other != word) for words in having]
        if not having:
            return False
        whole = self.encode_text([" ".join(words) for words in having])
        return bool((whole * self.encode_text(without)).sum(1).min() >= SAME)

    def write_text(self, folder: Path) -> None:
        """Writes config.json, names.json and model.safetensors, in float16 where nothing is lost."""
        about = {"format": 1, "kind": KIND, "words": asdict(self.config), "meta": self.meta}
        write_stored(
            folder, about, {name: _exactly(value) for name, value in self.network.state_dict().items()}
        )
        write_json(folder / VOCABULARY, asdict(self.vocabulary))


@torch.no_grad()
def nearest(tower: WordTower, words: Sequence[str], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Cosine [N] of each word with the nearest of the names, and that name's number [N].

    With an article all are read as things; alone, words without a meaning are near small ones.
    """
    known, asked = (tower.encode_text([f"a {text}" for text in texts]) for texts in (names, words))
    cosines, index = (asked @ known.T).max(dim=1)
    return cosines, index


def load_word_tower(folder: Path, stored: Value, weights: Weights = "pretrained") -> WordTower:
    """What `WordTower.write_text` stored, frozen; ValueError in one sentence for anything else."""
    config = config_from_value(WordTowerConfig, stored["words"])
    about = read_json(folder / VOCABULARY)
    names, others = (
        tuple(one.text(200) for one in about[key].rows(MAX_NAMES)) for key in ("names", "others")
    )
    read_as: dict[str, str] = {}
    if "means" in about.group():
        means = about["means"]
        read_as = {key: means[key].text(200) for key in means.keys()[:MAX_NAMES]}
    vocabulary = Names(names, others, about["far"].number(-1, 1), read_as)
    meta = stored.get("meta")

    def build() -> WordTower:
        return WordTower(config, vocabulary, {} if meta is None else meta.group())

    return load_fitting(build, folder, part="network", weights=weights, modest=is_modest(asdict(config)))


def _exactly(value: Tensor) -> Tensor:
    """The same numbers in the smaller of two formats."""
    half = value.half()
    return half if torch.equal(half.to(value), value) else value
