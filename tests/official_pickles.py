"""Writes pickles in the layout of the StyleGAN-XL release from networks of ours, in plain Python.

Every network object is a call of `torch_utils.persistence._reconstruct_persistent_obj` with a dictionary of
class name, source code and attributes; the class table is an ordinary torch module. Modules of the names that
the release uses exist only while a file is written.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

SOURCE = "raise SystemExit('the source inside the file was run')\n" * 50
HOOKS = ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks")


def _reconstruct_persistent_obj(meta):
    raise AssertionError("only written, never called")


class EasyDict(dict):
    """Dictionary of the release, pickled as itself."""


class Persistent:
    """Pickles as the release's objects do."""

    def __init__(self, class_name, state):
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self):
        return (_reconstruct_persistent_obj, (self.meta,), None)


@contextmanager
def release_names():
    """The release's module names, as far as pickle needs them to store a reference."""
    homes = {"torch_utils.persistence": [_reconstruct_persistent_obj], "dnnlib.util": [EasyDict]}
    old = {}
    try:
        for home, things in homes.items():
            module = types.ModuleType(home)
            sys.modules[home] = module
            sys.modules.setdefault(home.split(".")[0], types.ModuleType(home.split(".")[0]))
            for thing in things:
                old[thing] = thing.__module__
                thing.__module__ = home
                setattr(module, thing.__name__, thing)
        yield
    finally:
        for thing, home in old.items():
            thing.__module__ = home
        for home in homes:
            sys.modules.pop(home, None)
            sys.modules.pop(home.split(".")[0], None)


def state_of_module(module, modules=None, **attributes):
    """An object's attributes: torch's own groups, and what the class adds."""
    buffers = OrderedDict(
        (name, value.clone()) for name, value in module._buffers.items() if value is not None
    )
    parameters = OrderedDict(
        (name, nn.Parameter(value.detach().clone()))
        for name, value in module._parameters.items()
        if value is not None
    )
    return {
        "training": True,
        "_parameters": parameters,
        "_buffers": buffers,
        "_modules": OrderedDict(modules or {}),
        "_non_persistent_buffers_set": set(),
        **{name: OrderedDict() for name in HOOKS},
        "_init_args": (),
        "_init_kwargs": EasyDict(note="of the stem"),
        **attributes,
    }


def full(module, **attributes):
    return Persistent("FullyConnectedLayer", state_of_module(module, activation="linear", **attributes))


def layer(module):
    """A synthesis layer; a filter that is missing is stored as none."""
    spec = module.spec
    low, high = spec.padding
    state = state_of_module(
        module,
        {"affine": full(module.affine)},
        w_dim=module.affine.weight.shape[1],
        is_torgb=spec.is_torgb,
        is_critically_sampled=np.bool_(spec.is_critically_sampled),
        use_fp16=np.bool_(True),
        conv_kernel=spec.kernel,
        conv_clamp=spec.conv_clamp,
        in_channels=np.int64(spec.in_channels),
        out_channels=np.int64(spec.out_channels),
        in_size=np.broadcast_to(np.asarray(spec.in_size), [2]),
        out_size=np.broadcast_to(np.asarray(spec.out_size), [2]),
        in_sampling_rate=np.float64(spec.in_sampling_rate),
        out_sampling_rate=np.float64(spec.out_sampling_rate),
        tmp_sampling_rate=np.float64(spec.tmp_sampling_rate),
        in_cutoff=np.float64(spec.in_cutoff),
        out_cutoff=np.float64(spec.out_cutoff),
        in_half_width=np.float64(spec.in_half_width),
        out_half_width=np.float64(spec.out_half_width),
        up_factor=spec.up_factor,
        down_factor=spec.down_factor,
        up_taps=spec.up_taps,
        down_taps=spec.down_taps,
        padding=[low, high, low, high],
    )
    for name in ("up_filter", "down_filter"):
        state["_buffers"].setdefault(name, None)
    return Persistent("SynthesisLayer", state)


def synthesis(module):
    sizes = module.config.stylegan3
    source = module.input
    first = Persistent(
        "SynthesisInput",
        state_of_module(
            source,
            {"affine": full(source.affine)},
            size=np.broadcast_to(np.asarray(source.size[0]), [2]),
            sampling_rate=np.float64(source.sampling_rate),
            bandwidth=source.bandwidth,
        ),
    )
    layers = {one.spec.name: layer(one) for one in module.layers()}
    return Persistent(
        "SynthesisNetwork",
        state_of_module(
            module,
            {"input": first, **layers},
            layer_names=list(module.layer_names),
            head_layer_names=list(module.head_layer_names),
            channel_base=sizes.channel_base,
            channel_max=sizes.channel_max,
            first_stopband=sizes.first_stopband,
            output_scale=sizes.output_scale,
            num_ws=module.num_ws,
        ),
    )


def mapping(module, table_rows):
    """The mapping network with a class table of `table_rows` rows, also where nothing reads it."""
    table = nn.Embedding(table_rows, module.condition.dim or 320)
    modules = {"embed": table}
    if module.embed is not None:
        with torch.no_grad():
            table.weight[: len(module.embed.weight)] = module.embed.weight
        modules["embed_proj"] = full(module.embed_proj)
    for index in range(module.num_layers):
        modules[f"fc{index}"] = full(module.get_submodule(f"fc{index}"))
    attributes = {"z_dim": module.z_dim, "c_dim": module.condition.num_classes, "w_dim": module.w_dim}
    return Persistent("MappingNetwork", state_of_module(module, modules, **attributes))


def official_generator(generator, table_rows=24):
    """A generator of ours as an object of the release."""
    kind = "SuperresGenerator" if generator.config.stylegan3.superres else "Generator"
    parts = {
        "mapping": mapping(generator.mapping, table_rows),
        "synthesis": synthesis(generator.synthesis),
    }
    return Persistent(kind, state_of_module(generator, parts, img_resolution=generator.img_resolution))


def official_content(generator, **more):
    """The top level of a snapshot."""
    return {
        "G": None,
        "D": None,
        "G_ema": official_generator(generator),
        "augment_pipe": None,
        "training_set_kwargs": EasyDict(path="/home/somebody/data/pets16.zip", use_labels=True),
        "progress": {
            "cur_nimg": torch.LongTensor([12_345_000]),
            "best_fid": 2.5,
            "pl_mean": torch.tensor(0.75),
        },
        **more,
    }


def write_official(path, content, protocol=4):
    """Stores the content as the release stores a snapshot."""
    with release_names():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path
