"""Our CLIP text transformer against open_clip's with the same weights."""

import open_clip
import pytest
import torch

from sgxl_t.networks.text.text_tower import ClipNetwork, TextTowerConfig

SIZES = {"context_length": 9, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}
IMAGE = {"layers": 1, "width": 8, "head_width": 8, "image_size": 4, "patch_size": 4}


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_features_and_states_are_open_clips(quick_gelu):
    torch.manual_seed(3)
    theirs = open_clip.CLIP(12, dict(IMAGE), dict(SIZES), quick_gelu=quick_gelu).eval()
    ours = ClipNetwork(TextTowerConfig(embed_dim=12, quick_gelu=quick_gelu, **SIZES), theirs.visual).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    text = torch.randint(1, 38, (3, 9))
    text[0, 4], text[1, 8], text[2, 2] = 39, 39, 39
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_text(text), theirs.encode_text(text))
        options = {"text": text, "text_indices": 1, "normalize_intermediates": True}
        found, wanted = ours.forward_intermediates(**options), theirs.forward_intermediates(**options)
        torch.testing.assert_close(found["text_features"], wanted["text_features"])
        torch.testing.assert_close(found["text_intermediates"][-1], wanted["text_intermediates"][-1])


def test_first_weights_spread_as_open_clips():
    torch.manual_seed(4)
    sizes = {**SIZES, "width": 64, "vocab_size": 500}
    theirs = open_clip.CLIP(32, dict(IMAGE), dict(sizes)).state_dict()
    ours = ClipNetwork(TextTowerConfig(embed_dim=32, **sizes), None).state_dict()
    assert ours.keys() == {name for name in theirs if not name.startswith(("visual", "logit"))}
    for name, value in ours.items():
        assert value.std().item() == pytest.approx(theirs[name].std().item(), rel=0.25, abs=1e-6), name
