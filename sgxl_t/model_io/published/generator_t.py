"""A generator of ours from the StyleGAN-T generator of a file, and the text encoder that it brings along.

Our tensors have the published names, with two exceptions: `*.resample_filter` is the same 4x4 binomial filter
everywhere, so that it is built and not stored, and `mapping.clip.*` is the text encoder, which belongs to the
text condition here. A class table exists here only: the published code knows no labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import open_clip
import torch
from torch import Tensor

from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.tree import Module, tensors_of
from sgxl_t.files.pickles.values import RefusedError
from sgxl_t.model_io.published.generator import build_fitting, check_shapes, shapes_of
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGANTConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.layers_t import TAPS
from sgxl_t.networks.text.clip import ClipModel, local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.ops.resample.filters import setup_filter

FILTER = "resample_filter"
TEXT_ENCODER = "mapping.clip.model."
HEAD_WIDTH = 64
"""Numbers per attention head in every CLIP's text encoder, where a file does not tell."""
FIRST_BLOCK = "b8"
BESIDE_TEXT = ("visual.", "logit_scale", "logit_bias", "attn_mask")
"""What older versions of open_clip store beside the tower."""


def is_generator_t(module: Module) -> bool:
    """Whether a generator is StyleGAN-T's: both releases call theirs Generator."""
    return module.kind == "Generator" and FIRST_BLOCK in module.child("synthesis").children()


def read_generator_t(module: Module, *, limit: int) -> Generator:
    """The stored generator with its weights, float32, in eval mode, on the CPU.

    limit: bytes of the file, which its tensors cannot exceed. RefusedError where blocks or tensors contradict
    each other.
    """
    stored = tensors_of(module, limit=limit)
    config, condition = _sizes(module, stored)
    named = {ours: tensor.shape for name, tensor in stored.items() if (ours := generator_name_t(name))}
    generator = build_fitting(config, condition, named, module.where)
    state = {
        name: tensor.read().float() for name, tensor in stored.items() if not name.startswith(TEXT_ENCODER)
    }
    try:
        generator.load_state_dict(generator_state_from_official_t(state), assign=True)
    except ValueError as error:
        raise RefusedError(f"holds another filter in {module.where} ({error})") from None
    _fill_filters(generator)
    return generator.eval().requires_grad_(False)


def generator_name_t(official: str) -> str | None:
    """Our name of a generator tensor; none for a constant filter and for the text encoder."""
    if official.rsplit(".", 1)[-1] == FILTER or official.startswith(TEXT_ENCODER):
        return None
    return official


def generator_state_from_official_t(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published generator's tensors under our names, shapes unchanged.

    ValueError where a stored filter is not ours.
    """
    expected = setup_filter(TAPS)
    ours = {}
    for official, value in state.items():
        if official.rsplit(".", 1)[-1] == FILTER and not value.float().cpu().allclose(expected, atol=1e-6):
            raise ValueError(
                f"{official} is not the filter {TAPS} that this network is built for: retrain it with that"
            )
        name = generator_name_t(official)
        if name is not None:
            ours[name] = value
    return ours


def read_text_encoder(module: Module, *, limit: int) -> ClipModel | None:
    """The text encoder inside a generator; none for one without text."""
    if "clip" not in module.child("mapping").children():
        return None
    clip = module.child("mapping").child("clip").child("model")
    stored = tensors_of(clip, limit=limit)
    tensors = {name: tensor for name, tensor in stored.items() if not name.startswith(BESIDE_TEXT)}
    config = _tower_sizes(clip, tensors)
    try:
        tokenizer = open_clip.SimpleTokenizer(context_length=config.context_length)
        if tokenizer.vocab_size != config.vocab_size:
            raise RefusedError(
                f"stores {config.vocab_size} words in {clip.where} where CLIP's vocabulary has "
                f"{tokenizer.vocab_size}"
            )
        with torch.device("meta"):
            empty = local_clip(config, tokenizer, None).text_tensors()
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise RefusedError(f"describes a text encoder that cannot be built ({error})") from None
    check_shapes(shapes_of(empty), shapes_of(tensors), clip.where)
    with torch.random.fork_rng(devices=[]):  # first values are soon replaced
        tower = local_clip(config, tokenizer, None)
    tower.model.load_state_dict(
        {name: tensor.read().float() for name, tensor in tensors.items()}, strict=False, assign=True
    )
    return tower.eval().requires_grad_(False)


def _sizes(module: Module, stored: dict[str, StoredTensor]) -> tuple[GeneratorConfig, ConditionSpec]:
    """What the shapes of the tensors say."""
    synthesis = module.child("synthesis")
    blocks = {}
    for name in synthesis.children():
        match = re.fullmatch(r"b([0-9]{1,5})", name)
        if match:
            blocks[int(match[1])] = _shape(stored, f"synthesis.{name}.torgb.weight", 4, module)
    average = _shape(stored, "mapping.x_avg", 1, module)
    (_, w_dim) = _shape(stored, f"synthesis.{FIRST_BLOCK}.input.affine.weight", 2, module)
    layers = len(synthesis.child(FIRST_BLOCK).child("convs1").children())
    widths = {resolution: shape[1] for resolution, shape in blocks.items()}
    widest = max(widths.values())
    narrower = [resolution * width for resolution, width in widths.items() if width < widest]
    resolution = max(blocks)
    norm = synthesis.child(FIRST_BLOCK).child("convs1").child("1").child("norm")
    text = w_dim - average[0]
    sizes = StyleGANTConfig(
        mapping_layers=len(module.child("mapping").child("mlp").children()),
        channel_base=narrower[0] if narrower else widest * resolution,
        channel_max=widest,
        num_res_blocks=layers // 2,
        norm_groups=norm.whole("num_groups", StyleGANTConfig().norm_groups),
    )
    config = GeneratorConfig(
        family="stylegan_t",
        img_resolution=resolution,
        img_channels=blocks[resolution][0],
        z_dim=average[0],
        stylegan_t=_with_clamp(sizes, synthesis.child(FIRST_BLOCK).child("convs1").child("0")),
    )
    return config, ConditionSpec(kind="text", dim=text) if text > 0 else ConditionSpec()


def _with_clamp(sizes: StyleGANTConfig, layer: Module) -> StyleGANTConfig:
    if "conv_clamp" not in layer.state:
        return sizes
    return replace(sizes, conv_clamp=layer.number("conv_clamp") if layer.has("conv_clamp") else None)


def _shape(stored: dict[str, StoredTensor], name: str, dims: int, module: Module) -> tuple[int, ...]:
    if name not in stored:
        raise RefusedError(f"lacks the tensor {module.where}.{name}")
    shape = stored[name].shape
    if len(shape) != dims or not all(shape):
        raise RefusedError(f"holds {module.where}.{name} with shape {list(shape)}, which no generator has")
    return shape


def _tower_sizes(clip: Module, stored: dict[str, StoredTensor]) -> TextTowerConfig:
    vocab_size, width = _shape(stored, "token_embedding.weight", 2, clip)
    (length, _) = _shape(stored, "positional_embedding", 2, clip)
    (_, dim) = _shape(stored, "text_projection", 2, clip)
    blocks = clip.child("transformer").child("resblocks")
    first = blocks.child("0")
    act = first.child("mlp").children().get("gelu")
    try:
        return TextTowerConfig(
            embed_dim=dim,
            context_length=length,
            vocab_size=vocab_size,
            width=width,
            heads=first.child("attn").whole("num_heads", max(width // HEAD_WIDTH, 1)),
            layers=len(blocks.children()),
            quick_gelu=act is None or Module(act, f"{first.where}.mlp.gelu").kind == "QuickGELU",
        )
    except ValueError as error:
        raise RefusedError(f"describes a text encoder that cannot be built ({error})") from None


def _fill_filters(generator: Generator) -> None:
    """The one constant that state dicts leave out, and that building without memory left empty."""
    taps: Tensor = setup_filter(TAPS, separable=True)
    for part in generator.modules():
        if FILTER in part._buffers:
            part._buffers[FILTER] = taps.clone()
