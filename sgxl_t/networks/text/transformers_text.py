"""Text towers of the transformers library: T5 encoders, the text towers of SigLIP, sentence encoders."""

from __future__ import annotations

import copy
import re
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.files.memory import is_out_of_memory, taking_memory
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import UntrustedValueError
from sgxl_t.networks.text.full_captions import FullHubCaptions
from sgxl_t.networks.text.sentence_files import SentencePooling, read_pooling, write_pooling
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.tokens import TextTokens, leading
from sgxl_t.networks.text.transformers_files import (
    FILES,
    RESTORE,
    check_settings,
    checked_folder,
    weight_files,
)
from sgxl_t.networks.weights.hub import Weights, fetch, hub_reachable, offline, sizes_from_cache
from sgxl_t.networks.weights.stored import CONFIG, read_json, write_json
from sgxl_t.networks.weights.stored_tensors import LARGER_MACHINE, check_room

T = TypeVar("T")

TOWER = "tower"
"""Folder inside a stored text encoder with the files of a tower: of a trained one, or placed by hand."""
MAX_TOKENS = 256
"""Tokens of a caption that T5 reads, and sentence encoders that name no number; longer captions are cut."""


@dataclass(frozen=True)
class Family:
    """How one family of towers is built and read.

    network: class in transformers. pooled: SigLIP's own output at the last of a fixed number of tokens,
    instead of the mean of the last hidden states over the caption's tokens. sentences: BERT and its
    relatives, which files beside them may tell to take the first token instead (see `sentence_files.py`).
    """

    network: str
    pooled: bool = False
    sentences: bool = False


FAMILIES = {
    "t5": Family("T5EncoderModel"),
    "mt5": Family("MT5EncoderModel"),
    "umt5": Family("UMT5EncoderModel"),
    "siglip": Family("SiglipTextModel", pooled=True),
    "siglip_text_model": Family("SiglipTextModel", pooled=True),
    "siglip2": Family("Siglip2TextModel", pooled=True),
    "siglip2_text_model": Family("Siglip2TextModel", pooled=True),
    "bert": Family("BertModel", sentences=True),
    "distilbert": Family("DistilBertModel", sentences=True),
    "mpnet": Family("MPNetModel", sentences=True),
    "roberta": Family("RobertaModel", sentences=True),
    "xlm-roberta": Family("XLMRobertaModel", sentences=True),
}
"""By the `model_type` in config.json."""


class TransformersText(TextEncoder):
    """A T5 encoder, a SigLIP text tower or a sentence encoder behind captions.

    Frozen weights keep the number format of their file, but for float16, in which T5 overflows.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        family: Family,
        *,
        lower: bool,
        bare: bool,
        pooling: SentencePooling | None = None,
    ) -> None:
        """tokenizer: of transformers. lower, bare: captions lose capitals, and punctuation, before it.
        pooling: of a sentence encoder."""
        super().__init__()
        self.model, self.tokenizer, self.family = model, tokenizer, family
        self.lower, self.bare = lower, bare
        self.pooling = pooling or SentencePooling()
        config: Any = model.config
        if family.pooled:
            self.max_tokens = config.max_position_embeddings
            self.dim = config.projection_size or config.hidden_size
            self.token_dim = config.hidden_size
        else:
            self.max_tokens = self.pooling.max_tokens or MAX_TOKENS
            self.dim = self.token_dim = config.hidden_size

    def tokenize(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """See `TextEncoder.tokenize`; int64 [N, context_length]."""
        return self._tokens(texts, "max_length", context_length)["input_ids"]

    @property
    def context_length(self) -> int:
        """See `TextEncoder.context_length`."""
        return self.max_tokens

    def _tokens(self, texts: Sequence[str], padding: str, length: int | None = None) -> Any:
        return self.tokenizer(
            [self._cleaned(text) for text in texts],
            padding=padding,
            truncation=True,
            max_length=length or self.max_tokens,
            return_tensors="pt",
        )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder.encode_text`; [N, dim], float32."""
        return self.encode_with_tokens(texts)[0]

    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """Unit vectors [N, dim], the model's pooled ones or those of its tokens, and its last states."""
        tokens = self._tokens(texts, "max_length" if self.family.pooled else "longest")
        device = next(self.model.parameters()).device
        ids = tokens["input_ids"].to(device)
        if self.family.pooled:
            # SigLIP was trained to attend to its padding, so it gets no mask; who reads its tokens does.
            states = self.model(input_ids=ids)
            # The first place of padding counts: it is the token that ends a caption.
            mask = leading(ids, (ids != self.tokenizer.pad_token_id).sum(1) + 1)
            vectors = F.normalize(states.pooler_output.float(), dim=-1)
            return vectors, TextTokens(states.last_hidden_state.float(), mask)
        mask = tokens["attention_mask"].to(device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.pooling.pool == "first":
            vectors = hidden[:, 0]
        else:
            vectors = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(vectors, dim=-1), TextTokens(hidden, leading(ids, mask.sum(1)))

    def text_copy(self) -> TransformersText:
        """See `TextEncoder.text_copy`."""
        tower = copy.deepcopy(self, {id(self.tokenizer): self.tokenizer})
        tower.reference, tower._hash = None, None
        return tower.float()

    def write_text(self, folder: Path) -> None:
        """See `TextEncoder.write_text`."""
        folder.mkdir(parents=True, exist_ok=True)
        model: Any = self.model
        with _quietly():
            model.save_pretrained(folder / TOWER)
        self.tokenizer.save_pretrained(folder / TOWER)
        if self.family.sentences:
            write_pooling(folder / TOWER, self.pooling, self.dim)
        cleaning = {"lower": self.lower, "bare": self.bare}
        write_json(folder / CONFIG, {"format": 1, "kind": "transformers", **cleaning})

    def _cleaned(self, text: str) -> str:
        if self.lower:
            text = text.lower()
        if self.bare:
            text = text.translate(str.maketrans("", "", string.punctuation))
        return " ".join(text.split()) if self.lower else text


def load_transformers_text(
    name: str, cleaning: dict[str, Any] | None = None, weights: Weights = "pretrained"
) -> TransformersText:
    """A tower by its id on the hub, or from a folder with the files of one.

    cleaning: how captions are cleaned, where a stored copy says so. ValueError in one sentence when files are
    absent or broken, or when they are of another network. Only safetensors are read, and no code.
    """
    import transformers

    reference = f"transformers:{name}"
    if weights == "none":
        return _without_weights(reference, name)
    folder = checked_folder(reference, name)
    family = _family(reference, _read(reference, folder, lambda: _settings(name, folder)))
    network = getattr(transformers, family.network)
    extra = _extra(family)
    _check_weights(reference, name, folder, network, extra)

    def load() -> tuple[Any, Any, Any, str]:
        common = _common(folder) | extra
        with _quietly():
            model, found = network.from_pretrained(
                name, use_safetensors=True, dtype="auto", output_loading_info=True, **common
            )
        return model, found, *_tokenizer(name, folder)

    with taking_memory(reference, LARGER_MACHINE):
        model, found, tokenizer, vocabulary = _read(reference, folder, load)
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])[0]
        raise ValueError(f"{reference} lacks the tensor {missing}: restore its model.safetensors")
    if len(tokenizer) > model.config.vocab_size or tokenizer.pad_token_id is None:
        raise ValueError(
            f"{reference}: its tokenizer has {len(tokenizer)} tokens and its network knows "
            f"{model.config.vocab_size}: place the tokenizer.json that belongs to the network"
        )
    if family.pooled:
        tokenizer.padding_side = "right"
    if model.dtype == torch.float16:
        model = model.float()
    if cleaning is None:
        # SigLIP's own sentences are bare lower-case words, those of its successors, which Gemma's vocabulary
        # tells, lower case alone.
        bare = family.pooled and not re.search("gemma|siglip2", vocabulary)
        cleaning = {"lower": family.pooled, "bare": bare}
    pooling = _pooling(reference, name, folder, model.config) if family.sentences else None
    lower, bare = bool(cleaning["lower"]), bool(cleaning["bare"])
    tower = TransformersText(model, tokenizer, family, lower=lower, bare=bare, pooling=pooling)
    tower.reference = reference
    return tower


def _extra(family: Family) -> dict[str, Any]:
    """How to build the network without what nobody reads: BERT's output for pairs of sentences."""
    return {"add_pooling_layer": False} if family.sentences and "Distil" not in family.network else {}


def _pooling(reference: str, name: str, folder: Path | None, config: Any) -> SentencePooling:
    """Of a sentence encoder; it reads no more tokens than its network has positions for."""
    stated = _read(reference, folder, lambda: read_pooling(reference, lambda file: _file(name, file, folder)))
    # RoBERTa and its relatives count positions from behind that of their padding.
    first = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0
    most = config.max_position_embeddings - first
    return SentencePooling(stated.pool, min(stated.max_tokens or MAX_TOKENS, most))


def _without_weights(reference: str, name: str) -> TransformersText:
    """From the config.json alone, which has to be here already."""
    import transformers

    common: dict[str, Any] = {"local_files_only": True}
    with sizes_from_cache(reference):
        settings, _ = transformers.PretrainedConfig.get_config_dict(name, **common)
        family = FAMILIES[str(settings.get("model_type"))]
        network = getattr(transformers, family.network)
        config = network.config_class.from_pretrained(name, **common)
    model: nn.Module = network(config, **_extra(family))
    if config.dtype is not None and config.dtype != torch.float16:
        model.to(config.dtype)
    return TransformersText(model, FullHubCaptions(), family, lower=False, bare=False)


def _family(reference: str, config: Path) -> Family:
    """The family that the config.json of a tower names, after its settings have been checked."""
    settings = read_json(config, way_out=RESTORE)
    kind = settings["model_type"].text()
    family = FAMILIES.get(kind)
    if family is None:
        raise ValueError(
            f"{reference} is of the type {visible(kind)[:40]!r}: name a T5 encoder (t5, mt5, umt5), a "
            "SigLIP (siglip, siglip2) or a sentence encoder (bert, distilbert, mpnet, roberta, xlm-roberta), "
            "or a CLIP as open_clip:MODEL/TAG"
        )
    check_settings(settings)
    return family


def _check_weights(
    reference: str, name: str, folder: Path | None, network: Any, extra: dict[str, Any]
) -> None:
    """ValueError unless the stored weights can be those of the network that the config.json describes.

    It is built on `meta`, which takes no memory.
    """

    def look() -> tuple[Any, list[Path]]:
        config = network.config_class.from_pretrained(name, **_common(folder))
        with torch.device("meta"):
            planned = network(config, **extra)
        return planned, weight_files(name, _cached, _common(folder))

    planned, files = _read(reference, folder, look)
    numbers = sum(parameter.numel() for parameter in planned.parameters())
    check_room(numbers, files, f"the config.json of {reference}", RESTORE)


def _tokenizer(name: str, folder: Path | None) -> tuple[Any, str]:
    """The tokenizer, and the lower-case name of the class it was made by.

    tokenizer.json says all there is about a tokenizer, whatever the version of the library; older
    repositories have sentencepiece's spiece.model instead, which needs that package.
    """
    import transformers

    about = _file(name, "tokenizer_config.json", folder)
    stated = None if about is None else read_json(Path(about), way_out=RESTORE).get("tokenizer_class")
    whole = _file(name, "tokenizer.json", folder)
    loader = transformers.PreTrainedTokenizerFast if whole else transformers.AutoTokenizer
    tokenizer = loader.from_pretrained(name, trust_remote_code=False, **_common(folder))
    return tokenizer, "" if stated is None else stated.text().lower()


def _common(folder: Path | None) -> dict[str, Any]:
    return {"local_files_only": folder is not None or offline()}


def _cached(name: str, file: str, **common: Any) -> str | None:
    """Path of one file of a tower, fetched where it has to be; None where there is none."""
    from transformers.utils import cached_file

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    return cached_file(name, file, **quiet, **common)


def _file(name: str, file: str, folder: Path | None) -> str | None:
    """The same in a folder or the cache, and on the hub where the cache lacks it and the hub can be asked."""
    found = _cached(name, file, **_common(folder))
    if found is None and folder is None and offline() and hub_reachable():
        raise FileNotFoundError(f"{file} is not in the cache")
    return found


def _settings(name: str, folder: Path | None) -> Path:
    found = _file(name, CONFIG, folder)
    if found is None:
        raise FileNotFoundError(f"{name} has no {CONFIG}")
    return Path(found)


@contextmanager
def _quietly() -> Iterator[None]:
    """The library draws a bar for every file, however small, and lists tensors that a tower does not use."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _read(reference: str, folder: Path | None, load: Callable[[], T]) -> T:
    """What `load` gives, from a folder or through the hub; every failure to read is one sentence."""
    if folder is None:
        way_out = f"place its {FILES} in a folder and name it transformers:FOLDER"
        return fetch(reference, load, files=FILES, way_out=way_out)
    try:
        return load()
    except UntrustedValueError:
        raise
    except Exception as error:  # each of the files has its own kinds of errors
        if is_out_of_memory(error):
            raise
        reason = visible(" ".join(str(error).split()))[:160]
        raise ValueError(
            f"{reference} cannot be read ({type(error).__name__}: {reason}): {RESTORE}"
        ) from error
