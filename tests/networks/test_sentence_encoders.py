"""Sentence encoders of BERT's line: pooled as the files beside them say, against transformers itself."""

import json

import pytest
import torch
import transformers
from tiny_text_towers import sentence_folder
from torch.nn import functional as F

from sgxl_t.networks.frozen import load_stored_text, load_text_encoder

CAPTIONS = ["a red fox", "a small blue car on a beach, in snow", "fox"]
KINDS = ["Bert", "DistilBert", "MPNet", "Roberta", "XLMRoberta"]
MEAN, FIRST = {"pooling_mode_mean_tokens": True}, {"pooling_mode_cls_token": True}


def by_hand(folder, captions, first=False):
    """What sentence-transformers documents: mean over the mask or first token, then unit length."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    given = tokenizer(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
    mask = given.attention_mask.unsqueeze(-1)
    pooled = states[:, 0] if first else (states * mask).sum(1) / mask.sum(1)
    return F.normalize(pooled, dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_the_mask_has_unit_length(kind, tmp_path):
    folder = sentence_folder(tmp_path / kind, kind)
    tower = load_text_encoder(f"transformers:{folder}")
    found = tower.encode_text(CAPTIONS)
    assert found.shape == (3, 16) == (3, tower.dim)
    torch.testing.assert_close(found, by_hand(folder, CAPTIONS))
    vectors, tokens = tower.encode_with_tokens(CAPTIONS)
    torch.testing.assert_close(vectors, found)
    assert tokens.values.shape[2] == tower.token_dim


def test_the_files_beside_a_tower_choose_token_and_length(tmp_path):
    mean = load_text_encoder(f"transformers:{sentence_folder(tmp_path / 'mean', pooling=MEAN)}")
    first = load_text_encoder(f"transformers:{sentence_folder(tmp_path / 'first', pooling=FIRST)}")
    torch.testing.assert_close(first.encode_text(CAPTIONS), by_hand(tmp_path / "first", CAPTIONS, first=True))
    assert not torch.allclose(first.encode_text(CAPTIONS), mean.encode_text(CAPTIONS))
    assert first.context_length == 12
    assert load_text_encoder(f"transformers:{sentence_folder(tmp_path / 'plain')}").context_length == 40


@pytest.mark.parametrize("kind", ["Roberta", "MPNet"])
def test_no_more_tokens_are_read_than_there_are_positions(kind, tmp_path):
    tower = load_text_encoder(f"transformers:{sentence_folder(tmp_path / kind, kind)}")
    assert tower.context_length == 39
    assert tower.encode_text(["fox " * 100]).isfinite().all()


def test_a_copy_that_learns_is_stored_with_its_pooling(tmp_path):
    tower = load_text_encoder(f"transformers:{sentence_folder(tmp_path / 'first', pooling=FIRST)}")
    copy = tower.text_copy()
    copy.save_text(tmp_path / "stored")
    stored = load_stored_text(tmp_path / "stored")
    assert stored.reference is None
    assert stored.context_length == 12
    torch.testing.assert_close(stored.encode_text(CAPTIONS), tower.encode_text(CAPTIONS))


def test_other_poolings_and_further_steps_are_refused_in_one_sentence(tmp_path):
    longest = sentence_folder(tmp_path / "max", pooling={"pooling_mode_max_tokens": True})
    with pytest.raises(ValueError, match="pools by pooling_mode_max_tokens: name a sentence encoder"):
        load_text_encoder(f"transformers:{longest}")
    dense = sentence_folder(tmp_path / "dense", pooling=MEAN)
    (dense / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match="has the step 'Dense'"):
        load_text_encoder(f"transformers:{dense}")
