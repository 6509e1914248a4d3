"""Kept vectors of captions belong to one encoder: equal weights alone do not make equal vectors."""

import torch
from torch import nn
from torch.nn import functional as F

from sgxl_t.conditioning.caption_cache import cached_features
from sgxl_t.networks.text.text_encoder import JoinedEncoders, TextEncoder

CAPTIONS = ["a fox", "a dog in snow"]


class Bent(TextEncoder):
    """One matrix and an activation, which no weight shows."""

    dim = 4

    def __init__(self, reference, bend):
        super().__init__()
        self.reference, self.bend = reference, bend
        self.table = nn.Embedding(128, 4).requires_grad_(False)
        self.table.weight.copy_(torch.randn(128, 4, generator=torch.Generator().manual_seed(0)))

    def encode_text(self, texts):
        sums = [self.table(torch.tensor(list(text.encode()))).sum(0) for text in texts]
        return F.normalize(self.bend(torch.stack(sums)), dim=1)

    def encode_with_tokens(self, texts):
        raise NotImplementedError

    text_copy = write_text = tokenize = encode_with_tokens
    context_length = 77


def test_encoders_of_equal_weights_and_other_references_are_kept_apart(tmp_path):
    one, other = Bent("open_clip:A/x", F.gelu), Bent("open_clip:B/x", torch.tanh)
    assert one.weights_hash() == other.weights_hash()
    for encoder in (one, other, JoinedEncoders([one, other]), JoinedEncoders([other, one])):
        found = cached_features(encoder, CAPTIONS, tmp_path)
        assert torch.equal(found, encoder.encode_text(CAPTIONS))
        assert torch.equal(cached_features(encoder, CAPTIONS, tmp_path), found)
    assert len(list(tmp_path.iterdir())) == 4
