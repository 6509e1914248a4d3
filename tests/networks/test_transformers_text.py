"""T5 and SigLIP text towers of transformers, loaded from folders as the hub has them."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_text_towers import TOKENS, siglip_folder, t5_folder, write_tokenizer
from torch.nn import functional as F

from sgxl_t.networks.frozen import load_stored_text, load_text_encoder
from sgxl_t.networks.text import transformers_text
from sgxl_t.networks.weights import hub

CAPTIONS = ["a red fox", "a small blue car on a beach, in snow!", "Zebra"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {"t5": t5_folder(root / "t5"), "siglip": siglip_folder(root / "siglip")}


@pytest.mark.parametrize("kind", ["t5", "siglip"])
def test_vectors_have_unit_length_and_depend_on_their_own_caption_alone(folders, kind):
    tower = load_text_encoder(f"transformers:{folders[kind]}")
    together = tower.encode_text(CAPTIONS)
    assert together.shape == (3, 16) == (3, tower.dim)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(torch.cat([tower.encode_text([text]) for text in CAPTIONS]), together)
    assert not together.requires_grad
    assert not tower.training
    assert tower.guide is None
    assert tower.unknown_words(["zebra"]) == {}


def test_t5_is_the_mean_of_its_last_states(folders):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["t5"])
    assert type(tokenizer).__name__.startswith("T5Tokenizer")
    model = transformers.T5EncoderModel.from_pretrained(folders["t5"]).eval()
    with torch.no_grad():
        ids = tokenizer([CAPTIONS[0]], return_tensors="pt").input_ids
        states = model(input_ids=ids).last_hidden_state
    assert ids[0].tolist() == [3, 4, 7, 1]
    found = load_text_encoder(f"transformers:{folders['t5']}").encode_text(CAPTIONS[:1])
    torch.testing.assert_close(found, F.normalize(states.mean(1), dim=-1))


def test_siglip_is_its_pooled_output_over_padded_tokens(folders):
    model = transformers.SiglipModel.from_pretrained(folders["siglip"]).eval()
    ids = torch.tensor([[3, 4, 7] + [1] * (TOKENS - 3)])
    with torch.no_grad():
        pooled = model.text_model(input_ids=ids).pooler_output
    found = load_text_encoder(f"transformers:{folders['siglip']}").encode_text(["A red, FOX!"])
    torch.testing.assert_close(found, F.normalize(pooled, dim=-1))


def test_the_second_siglip_keeps_punctuation(tmp_path):
    tower = load_text_encoder(f"transformers:{siglip_folder(tmp_path / 's2', 'GemmaTokenizer')}")
    same, other = tower.encode_text(["A RED fox"]), tower.encode_text(["a red fox!"])
    assert torch.equal(same, tower.encode_text(["a red fox"]))
    assert not torch.allclose(same, other)


def test_long_captions_are_cut(folders):
    for kind in folders:
        tower = load_text_encoder(f"transformers:{folders[kind]}")
        long = tower.encode_text(["fox " * 3000, "fox " * 3001])
        torch.testing.assert_close(long[0], long[1])


def test_frozen_towers_keep_the_format_of_their_file_but_for_half_precision(tmp_path):
    for dtype, kept in ((torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        tower = load_text_encoder(f"transformers:{t5_folder(tmp_path / str(dtype), dtype)}")
        assert next(tower.parameters()).dtype == kept
        assert tower.encode_text(["a fox"]).dtype == torch.float32
        assert next(tower.text_copy().parameters()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["t5", "siglip"])
def test_a_trained_copy_is_stored_by_its_weights(folders, kind, tmp_path):
    original = load_text_encoder(f"transformers:{folders[kind]}")
    before = original.encode_text(CAPTIONS)
    learning = original.text_copy().requires_grad_(True)
    learning.encode_text(CAPTIONS)[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in learning.text_parameters())
    with torch.no_grad():
        for parameter in learning.text_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    learning.requires_grad_(False).save_text(tmp_path / "text")
    assert {path.suffix for path in (tmp_path / "text").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".jinja",
    }
    stored = load_stored_text(tmp_path / "text")
    assert torch.equal(stored.encode_text(CAPTIONS), learning.encode_text(CAPTIONS))
    assert torch.equal(original.encode_text(CAPTIONS), before)
    assert not torch.allclose(stored.encode_text(CAPTIONS), before)
    assert stored.reference is None
    assert not any(parameter.requires_grad for parameter in stored.parameters())


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_absent_files_are_named_with_their_place(file, tmp_path):
    folder = t5_folder(tmp_path / "t5")
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"lacks {file}: place .*{file}.* in .*t5") as caught:
        load_text_encoder(f"transformers:{folder}")
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_no_weights(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model.safetensors"):
        load_text_encoder(f"transformers:{folder}")


def test_code_beside_the_weights_is_never_run(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(ValueError, match='has "auto_map", which is not followed'):
        load_text_encoder(f"transformers:{folder}")
    assert not (tmp_path / "ran").exists()


def test_tensors_that_are_missing_or_cut_are_named(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks the tensor {name}"):
        load_text_encoder(f"transformers:{folder}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"truncated or no safetensors file: restore its"):
        load_text_encoder(f"transformers:{folder}")


def test_other_networks_and_tokenizers_are_refused(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    tensors = load_file(folder / "model.safetensors")
    tensors = {key: t[:20] if t.shape[0] == config["vocab_size"] else t for key, t in tensors.items()}
    save_file({key: t.clone() for key, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="tokens and its network knows 20"):
        load_text_encoder(f"transformers:{folder}")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="of the type 'gpt2'"):
        load_text_encoder(f"transformers:{folder}")


def test_an_unreachable_hub_says_which_files_to_place(monkeypatch, tmp_path):
    for module in (hub, transformers_text):
        monkeypatch.setattr(module, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    wanted = r"config.json, model.safetensors and tokenizer.json .*transformers:FOLDER"
    with pytest.raises(hub.MissingWeightsError, match=wanted) as caught:
        load_text_encoder("transformers:google/no-such-t5")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="there is no folder some/where/t5"):
        load_text_encoder("transformers:some/where/t5")


def test_a_folder_written_anew_is_read_anew(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    first = load_text_encoder(f"transformers:{folder}")
    assert load_text_encoder(f"transformers:{folder}") is first
    write_tokenizer(folder)
    assert load_text_encoder(f"transformers:{folder}") is not first
