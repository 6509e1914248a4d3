"""Words to token numbers for the small local text tower."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.networks.weights.stored import read_json, write_json

FILE = "vocabulary.json"
PAD, UNKNOWN, START, FIRST_WORD = 0, 1, 2, 3
MAX_WORDS = 50_000
MAX_CONTEXT = 4096
MAX_CHARACTERS = 10_000
"""Characters of a caption that are looked at; what follows cannot reach a token any more."""


_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Lower-case words of a text: letters, digits and inner apostrophes; everything else separates."""
    return _WORD.findall(text[:MAX_CHARACTERS].lower())


class WordTokenizer:
    """One token per word, all others one `unknown` token; 0 pads.

    The end token has the largest number, because CLIP reads the feature at the position of the largest token.
    words: known words in the order of their numbers. context_length: tokens per caption with start and end;
    longer captions are cut, and still end in the end token.
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        if context_length < 3:
            raise ValueError(f"context_length={context_length} leaves no room for a word: use at least 3")
        if not words or len(set(words)) != len(words):
            raise ValueError("a vocabulary needs words, each once")
        self.words = tuple(words)
        self.context_length = context_length
        self._numbers = {word: FIRST_WORD + index for index, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""
        return FIRST_WORD + len(self.words) + 1

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Captions to int64 [N, context_length]; none takes its own."""
        length = context_length or self.context_length
        tokens = torch.full((len(texts), length), PAD, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            numbers = [self._numbers.get(word, UNKNOWN) for word in split_words(text)]
            numbers = [START, *numbers[: length - 2], self.vocab_size - 1]
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens

    def end(self, text: str) -> str:
        """What follows the words of a text that have room; "" where all have."""
        starts = [match.start() for match in _WORD.finditer(text)]
        room = self.context_length - 2
        return text[starts[room] :].strip() if len(starts) > room else ""

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """Words of these texts that the tower never saw, each once, in order."""
        found = (word for text in texts for word in split_words(text) if word not in self._numbers)
        return list(dict.fromkeys(found))

    def save(self, folder: Path) -> None:
        """Writes vocabulary.json."""
        write_json(folder / FILE, {"context_length": self.context_length, "words": list(self.words)})

    @classmethod
    def load(cls, folder: Path) -> WordTokenizer:
        """Reads vocabulary.json; ValueError when it is missing or broken."""
        stored = read_json(folder / FILE)
        words = [word.text() for word in stored["words"].rows(MAX_WORDS)]
        if not words or len(set(words)) != len(words):
            raise stored["words"].error("must hold words, each once")
        return cls(words, stored["context_length"].integer(3, MAX_CONTEXT))

    @classmethod
    def build(cls, captions: Iterable[str], *, max_words: int = 4000, max_length: int = 48) -> WordTokenizer:
        """The most frequent words of these captions, and room for the longest of them within max_length."""
        counts: Counter[str] = Counter()
        longest = 1
        for caption in captions:
            words = split_words(caption)
            counts.update(words)
            longest = max(longest, len(words))
        if not counts:
            raise ValueError("the captions hold no words: write what the pictures show")
        # Ties in frequency are broken by the word itself, so the numbers do not depend on reading order.
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[:max_words]
        return cls(ranked, min(longest + 2, max_length))
