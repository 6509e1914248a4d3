"""A transformer of timm's with methods put onto it, and hooks that are closures."""

import functools
import types

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

activations = {}


class Slice(nn.Module):
    def __init__(self, start_index=1):
        super().__init__()
        self.start_index = start_index


class Transpose(nn.Module):
    def __init__(self, dim0, dim1):
        super().__init__()
        self.dim0, self.dim1 = dim0, dim1


def _resize_pos_embed(self, posemb, gs_h, gs_w):
    return posemb[:, : gs_h * gs_w]


def forward_flex(self, x):
    return self.patch_embed(x) * torch.ones(()) + len(activations)


def get_activation(name):
    """A hook that keeps what passes."""
    kept = {name: None}

    def hook(model, input, output):
        activations[name] = kept[name] = output

    return hook


def layer(convs):
    """Tokens to a map, then the adapters [out, in, k]; those of stride grow the map."""
    first = [Slice(2), Transpose(1, 2), nn.Unflatten(2, torch.Size([14, 14]))]
    made = [getattr(nn, one["class"])(*one["arguments"], **one["options"]) for one in convs]
    return nn.Sequential(*first, *made)


def make_vit_backbone(adapter):
    pretrained = nn.Module()
    pretrained.model = VisionTransformer(
        img_size=32,
        patch_size=16,
        embed_dim=16,
        depth=12,
        num_heads=2,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )
    for number, block in enumerate((2, 5, 8, 11), start=1):
        pretrained.model.blocks[block].register_forward_hook(get_activation(str(number)))
        setattr(pretrained, f"layer{number}", layer(adapter[number - 1]))
    pretrained.activations = activations
    pretrained.model.start_index = 2
    pretrained.model.patch_size = [16, 16]
    pretrained.model.scale = lambda x: x * pretrained.model.start_index
    pretrained.model.forward_flex = types.MethodType(forward_flex, pretrained.model)
    pretrained.model._resize_pos_embed = types.MethodType(_resize_pos_embed, pretrained.model)
    return pretrained
