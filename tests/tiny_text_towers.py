"""Folders and registered models as the hub has them, of the same classes and some thousand weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

WORDS = ["a", "red", "blue", "small", "fox", "car", "in", "on", "snow", "beach"]
LETTERS = "abcdefghijklmnopqrstuvwxyz,!."
T5_PIECES = ("<pad>", "</s>", "<unk>")
TOKENS = 8
"""Tokens that the tiny SigLIP reads."""
VISION = {"image_size": 32, "patch_size": 16, "width": 8, "head_width": 4, "layers": 1}
TEXT = {"width": 8, "heads": 2, "layers": 1}


def write_tokenizer(folder: Path, kind: str = "T5Tokenizer", pad: str = "<pad>") -> int:
    """tokenizer.json of T5's make (unigrams, a closing </s>) and what is said about it; returns its size."""
    pieces = [(piece, 0.0) for piece in T5_PIECES]
    pieces += [(f"\u2581{word}", -1.0) for word in WORDS] + [("\u2581", -3.0)]
    pieces += [(letter, -5.0) for letter in LETTERS]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always"),
        ]
    )
    made.add_special_tokens(list(T5_PIECES))
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": kind, "extra_ids": 0, "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "pad_token": pad}))
    return len(pieces)


def _seeded(build: Any, *arguments: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build(*arguments).eval()


def t5_folder(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A whole T5 with its decoder, as t5-small lies on the hub."""
    size = write_tokenizer(folder)
    config = transformers.T5Config(
        vocab_size=size + 6,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_decoder_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    _seeded(transformers.T5ForConditionalGeneration, config).to(dtype).save_pretrained(folder)
    return folder


def siglip_folder(folder: Path, kind: str = "SiglipTokenizer") -> Path:
    """A whole SigLIP with its image tower, as siglip-base lies on the hub."""
    size = write_tokenizer(folder, kind, pad="</s>")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**sizes, "vocab_size": size, "max_position_embeddings": TOKENS},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
    )
    _seeded(transformers.SiglipModel, config).save_pretrained(folder)
    return folder


def sentence_folder(folder: Path, kind: str = "Bert", pooling: dict[str, bool] | None = None) -> Path:
    """A sentence encoder as sentence-transformers stores one: a tower of BERT's line and what says how its
    tokens become one vector."""
    size = write_tokenizer(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "DistilBert":
        sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, vocab_size=size, max_position_embeddings=40, pad_token_id=0
    )
    _seeded(getattr(transformers, f"{kind}Model"), config).save_pretrained(folder)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))
        steps = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling")]
        (folder / "modules.json").write_text(json.dumps(steps))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    return folder


def roberta_folder(folder: Path) -> Path:
    """Description and tokenizer of a RoBERTa, whose weights open_clip's own file holds."""
    size = write_tokenizer(folder)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.RobertaConfig(
        **sizes, vocab_size=size, max_position_embeddings=90, pad_token_id=0
    ).save_pretrained(folder)
    return folder


def shrunken(name: str, tokenizer: Path | None = None) -> dict[str, Any]:
    """open_clip's own description of a model with smaller numbers. tokenizer: in place of a hub's."""
    config = open_clip.get_model_config(name)
    config["embed_dim"] = 12
    config["vision_cfg"] = {**VISION, "output_tokens": True} if "multimodal_cfg" in config else dict(VISION)
    text = config["text_cfg"]
    if "hf_model_name" in text:
        text["hf_model_name"] = str(tokenizer)
    else:
        text |= TEXT
    if "hf_tokenizer_name" in text:
        text["hf_tokenizer_name"] = str(tokenizer)
        text["vocab_size"] = 64
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {**TEXT, "attn_pooler_heads": 2, "n_queries": 4, "dim_head": 4}
    return config


def register(
    monkeypatch: Any, folder: Path, name: str, config: dict[str, Any], *, quick_gelu: bool = False
) -> Any:
    """Makes open_clip know `tiny-NAME/tag` with random weights in a file; returns the model."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"tiny-{name}", config)
    model = _seeded(
        lambda: open_clip.create_model(f"tiny-{name}", force_quick_gelu=quick_gelu, pretrained_text=False)
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "open_clip_model.safetensors"
    save_file({key: value.clone() for key, value in model.state_dict().items()}, path)
    entry = {"file": str(path), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2), "quick_gelu": quick_gelu}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, f"tiny-{name}", {"tag": entry})
    return model
