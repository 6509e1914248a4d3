"""Words as sums of their parts: every word has a vector, those that nobody ever saw as well.

A word is the sum of vectors of its pieces of three to six letters and of itself, which are found in one table
by a hash (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from sgxl_t.networks.text.vocab import split_words

PIECES = (3, 4, 5, 6)
"""Letters of a piece; the signs for the start and the end of a word count."""
WHOLE = 3
"""Rows of the whole word, so that few words share all of theirs."""
MAX_LETTERS = 40
"""Letters of a word that are looked at."""
NUMBER_BITS = 62


def word_number(word: str) -> int:
    """A number from 1 that tells words apart; the same on every machine."""
    return 1 + _hash(f"={word}") % (2**NUMBER_BITS)


@lru_cache(maxsize=100_000)
def word_rows(word: str, rows: int) -> tuple[int, ...]:
    """Where a word's parts stand in a table of `rows`, those of the whole word first."""
    framed = f"<{word[:MAX_LETTERS]}>"
    whole = [f"{number}{framed}" for number in range(WHOLE)]
    sizes = [size for size in PIECES if size < len(framed)]
    pieces = {framed[at : at + size] for size in sizes for at in range(len(framed) - size + 1)}
    return tuple(_hash(part) % rows for part in (*whole, *sorted(pieces)))


class SpelledWords(nn.Module):
    """Texts to vectors of their words."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(rows, width, mode="sum")
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Vectors [N, L, width] of the first `length` words, and bool [N, L], true where a word stands.

        L is at least 1; a text without words has one of zeros.
        """
        device, weight = self.table.weight.device, self.table.weight
        found = [split_words(text)[:length] for text in texts]
        words = dict.fromkeys(word for text in found for word in text)
        different = {word: number for number, word in enumerate(words, 1)}
        rows = [word_rows(word, weight.shape[0]) for word in different]
        flat = torch.tensor([row for word in rows for row in word], dtype=torch.int64)
        counts = torch.tensor([len(word) for word in rows], dtype=torch.int64)
        starts = counts.cumsum(0) - counts
        vectors = self.table(flat.to(device), starts.to(device)) / counts.sqrt().to(weight)[:, None]
        vectors = torch.cat([vectors.new_zeros(1, weight.shape[1]), vectors])
        longest = max([1, *map(len, found)])
        places = [[different[word] for word in words] + [0] * (longest - len(words)) for words in found]
        numbers = torch.tensor(places, dtype=torch.int64, device=device)
        mask = numbers > 0
        mask[:, 0] = True
        return vectors[numbers], mask


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )
