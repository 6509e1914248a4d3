"""Tokens of every kind of text encoder: last states, masks without padding, one pass with the vectors."""

import open_clip
import pytest
import torch
from tiny_clips import tiny_whole_clip
from tiny_text_towers import register, roberta_folder, shrunken, siglip_folder, t5_folder
from torch.nn import functional as F

from sgxl_t.networks.conditioning import rows
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.text.text_encoder import JoinedEncoders
from sgxl_t.networks.text.tokens import TextTokens, leading

CAPTIONS = ["a red fox", "", "a small blue car on a beach in snow"]
MAKES = {
    "plain": "ViT-B-32",
    "custom": "PE-Core-T-16-384",
    "siglip": "ViT-B-16-SigLIP",
    "eos": "ViT-L-14-worldwide",
    "coca": "coca_ViT-B-32",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {"t5": t5_folder(root / "t5"), "siglip": siglip_folder(root / "siglip")}


def checked(encoder):
    """Vectors and tokens of CAPTIONS, after what holds for every encoder."""
    with torch.no_grad():
        vectors, tokens = encoder.encode_with_tokens(CAPTIONS)
        torch.testing.assert_close(vectors, encoder.encode_text(CAPTIONS))
        alone = encoder.encode_with_tokens(CAPTIONS[:1])[1]
    assert tokens.values.shape == (*tokens.mask.shape, encoder.token_dim)
    assert tokens.values.dtype == torch.float32
    counts = tokens.mask.sum(1)
    assert counts[2] > counts[0] > counts[1] >= 1
    assert torch.equal(alone.mask.sum(1), counts[:1])
    torch.testing.assert_close(alone.values[alone.mask], tokens.values[0][tokens.mask[0]])
    return vectors, tokens


@pytest.mark.parametrize("make", MAKES)
def test_every_make_of_open_clip_gives_its_last_states(make, monkeypatch, tmp_path):
    vocabulary = roberta_folder(tmp_path / "vocabulary")
    register(monkeypatch, tmp_path / "weights", make, shrunken(MAKES[make], vocabulary))
    encoder = load_text_encoder(f"open_clip:tiny-{make}/tag")
    assert encoder.token_dim == 8
    vectors, tokens = checked(encoder)
    if make == "plain":
        ids = open_clip.get_tokenizer(f"tiny-{make}")(CAPTIONS)
        assert tokens.mask.sum(1).tolist() == (ids.argmax(1) + 1).tolist()
        ends = tokens.values[torch.arange(3), ids.argmax(1)] @ encoder.model.text_projection
        torch.testing.assert_close(F.normalize(ends, dim=1), vectors)


def test_a_tower_of_another_library_in_open_clip_shows_none(monkeypatch, tmp_path):
    vocabulary = roberta_folder(tmp_path / "vocabulary")
    register(monkeypatch, tmp_path / "weights", "hub", shrunken("roberta-ViT-B-32", vocabulary))
    assert load_text_encoder("open_clip:tiny-hub/tag").token_dim == 0


def test_a_local_clip_counts_words_start_and_end():
    _, tokens = checked(tiny_whole_clip())
    assert tokens.mask.sum(1).tolist() == [5, 2, 11]


def test_t5_counts_what_its_mean_is_taken_of(folders):
    encoder = load_text_encoder(f"transformers:{folders['t5']}")
    vectors, (values, mask) = checked(encoder)
    means = torch.stack([values[n, mask[n]].mean(0) for n in range(3)])
    torch.testing.assert_close(F.normalize(means, dim=1), vectors)


def test_siglip_counts_the_words_and_their_end(folders):
    _, tokens = checked(load_text_encoder(f"transformers:{folders['siglip']}"))
    assert tokens.mask.sum(1).tolist() == [4, 1, 8]


def test_joined_encoders_show_the_tokens_of_the_first(folders):
    clip, t5 = tiny_whole_clip(), load_text_encoder(f"transformers:{folders['t5']}")
    joined = JoinedEncoders([clip, t5])
    _, tokens = checked(joined)
    assert torch.equal(tokens.values, clip.encode_with_tokens(CAPTIONS)[1].values)


def test_a_tower_that_learns_gets_gradients_through_its_tokens():
    tower = tiny_whole_clip().text_copy().requires_grad_(True)
    tower.encode_with_tokens(CAPTIONS)[1].values[:, 1].square().sum().backward()
    assert tower.model.token_embedding.weight.grad.abs().sum() > 0


def test_rows_and_leading_places():
    ids = torch.zeros(3, 4)
    assert leading(ids, torch.tensor([0, 2, 9])).sum(1).tolist() == [1, 2, 4]
    values = torch.arange(6.0).view(3, 2, 1)
    assert rows(None, slice(2)) is None
    assert rows(TextTokens(values), slice(2)).values.shape == (2, 2, 1)
    part = rows(TextTokens(values, values[:, :, 0] > 2), torch.tensor([2, 0]))
    assert part.values[:, 0, 0].tolist() == [4, 0]
    assert part.mask.tolist() == [[True, True], [False, False]]
