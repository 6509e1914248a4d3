"""Modules of any generator: parameters, buffers, children and attributes as a recipe lists them."""

import numpy as np
import torch
from dnnlib.util import EasyDict
from torch import nn
from torch_utils.persistence import persistent_class


class Generator(nn.Module):
    """Of StyleGAN-T, whose objects are pickled as any module is."""


class MappingNetwork(nn.Module):
    pass


class SynthesisNetwork(nn.Module):
    pass


class SynthesisBlock(nn.Module):
    pass


class CLIP(nn.Module):
    pass


class QuickGELU(nn.Module):
    pass


PLAIN = {kind.__name__: kind for kind in (Generator, MappingNetwork, SynthesisNetwork, SynthesisBlock, CLIP)}
PLAIN["QuickGELU"] = QuickGELU
made = {}


def class_of(recipe):
    """Classes of torch, plain ones of this module, and persistent ones made by name."""
    name = recipe["class"]
    if recipe["how"] == "torch":
        return getattr(nn, name)
    if recipe["how"] == "plain":
        return PLAIN[name]
    if name not in made:
        made[name] = persistent_class(type(name, (nn.Module,), {}))
    return made[name]


def value_of(stored):
    """An attribute; numpy's types are marked."""
    if isinstance(stored, dict):
        made = np.asarray(stored["value"], dtype=stored["numpy"])
        return np.broadcast_to(made[:1], made.shape) if made.ndim else made[()]
    return stored


def build(recipe):
    """The object of a recipe, its tensors random."""
    kind = class_of(recipe)
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, shape in recipe["parameters"].items():
        module.register_parameter(name, None if shape is None else nn.Parameter(torch.randn(shape)))
    for name, stored in recipe["buffers"].items():
        filled = isinstance(stored, dict)
        value = torch.tensor(stored["value"]) if filled else None if stored is None else torch.randn(stored)
        module.register_buffer(name, value)
    for name, child in recipe["modules"].items():
        module.add_module(name, build(child))
    for name, stored in recipe["attributes"].items():
        setattr(module, name, value_of(stored))
    if recipe["how"] == "persistent":
        module._init_args, module._init_kwargs = (), EasyDict(note="of the stem", sizes=EasyDict(w_dim=512))
    return module
