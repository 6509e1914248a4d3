"""Recipes of files that `release/write.py` writes in a process of its own, with real dill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from official_names_t import official_generator_shapes_t
from official_pickles import HOOKS, Persistent, official_generator

from sgxl_t.model_io.published.generator_t import TEXT_ENCODER

RELEASE = Path(__file__).parent / "release"
GROUPS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_init_args", "_init_kwargs")
PROGRESS = {"cur_nimg": 123_000, "cur_tick": 30, "batch_idx": 1921}


def recipe(name, generator, trained=None, discriminator=None, *, progress=None, library="dill", **options):
    """One file. generator, trained: trees of modules. discriminator: as `discriminator_recipe` gives it."""
    return {
        "name": name,
        "G_ema": generator,
        "G": trained,
        "D": discriminator,
        "progress": progress,
        "library": library,
        "options": options,
    }


def write_files(recipes, folder, path=(), interpreter=sys.executable):
    """Runs the writer; returns what it says about its versions. path: of packages that come first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipes.json").write_text(json.dumps(recipes))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(RELEASE)])}
    command = [interpreter, str(RELEASE / "write.py"), str(folder / "recipes.json"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def numbers(path, network):
    """The tensors of a network that lie beside a file, by the release's names."""
    stored = np.load(path.with_suffix(".npz"))
    prefix = f"{network}."
    return {
        name.removeprefix(prefix): torch.from_numpy(stored[name])
        for name in stored.files
        if name.startswith(prefix)
    }


def tree(module):
    """The recipe of a module of the release."""
    if isinstance(module, Persistent):
        name, state, how = module.meta["class_name"], module.meta["state"], "persistent"
        attributes = {key: marked(value) for key, value in state.items() if key not in (*GROUPS, *HOOKS)}
    else:
        name, state, how, attributes = type(module).__name__, vars(module), "torch", {}
    shapes = [
        {key: None if value is None else list(value.shape) for key, value in state[group].items()}
        for group in ("_parameters", "_buffers")
    ]
    return {
        "class": name,
        "how": how,
        "parameters": shapes[0],
        "buffers": shapes[1],
        "modules": {key: tree(child) for key, child in state["_modules"].items()},
        "attributes": attributes,
    }


def marked(value):
    """JSON of an attribute; numpy's own are marked with their type."""
    if isinstance(value, np.generic | np.ndarray):
        return {"numpy": value.dtype.name, "value": value.tolist()}
    return value


def generator_recipe(generator, **options):
    """Of StyleGAN-XL's."""
    return tree(official_generator(generator, **options))


# The discriminator ----------------------------------------------------------------------------------------


def discriminator_recipe(discriminator, names, kinds):
    """Of a discriminator of ours, its networks under the given names and of the given kinds."""
    parts = zip(names, kinds, discriminator.heads.networks, discriminator.features.projections, strict=True)
    return [
        {
            "name": name,
            "kind": kind,
            "cout": projection.scratch.layer0_ccm.weight.shape[0],
            "heads": [_head(one) for one in heads.mini_discs],
            "scratch": {key: _conv(child) for key, child in projection.scratch.named_children()},
            "adapter": None if kind != "vit" else [_adapter(one) for one in projection.adapter.children()],
        }
        for name, kind, heads, projection in parts
    ]


def _conv(layer):
    conv = getattr(layer, "out_conv", layer)
    return list(getattr(conv, "weight_orig", conv.weight).shape)


def _head(head):
    conditional = hasattr(head, "cls")
    blocks = [list(block.main[0].weight_orig.shape) for block in head.main if hasattr(block, "main")]
    last = head.cls if conditional else head.main[-1]
    made = {"blocks": blocks, "last": list(last.weight_orig.shape)}
    if conditional:
        made["table"] = [24, head.embed.embedding_dim]
        made["embed_proj"] = list(head.embed_proj.weight.shape)
    return made


def _adapter(layers):
    return [
        {
            "class": type(one).__name__,
            "arguments": [one.in_channels, one.out_channels, one.kernel_size[0]],
            "options": {"stride": one.stride[0], "padding": one.padding[0]},
        }
        for one in layers
    ]


# StyleGAN-T -----------------------------------------------------------------------------------------------

CLASSES_T = {"": "Generator", "mapping": "MappingNetwork", "synthesis": "SynthesisNetwork"}
TAPS = torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64


def generator_recipe_t(generator, tower=None, *, how="plain"):
    """Of StyleGAN-T's, with the text tower (a ClipModel) where there is one."""
    shapes = official_generator_shapes_t(generator)
    parameters = {name for name, _ in generator.named_parameters()}
    if tower is not None:
        for name, value in tower.text_tensors().items():
            shapes[f"{TEXT_ENCODER}{name}"] = tuple(value.shape)
            parameters.add(f"{TEXT_ENCODER}{name}")
    root = _node("", how)
    for name, shape in shapes.items():
        node, path = root, ""
        *parents, last = name.split(".")
        for part in parents:
            path = f"{path}.{part}".lstrip(".")
            node = node["modules"].setdefault(part, _node(path, how))
        group = "parameters" if name in parameters else "buffers"
        node[group][last] = {"value": TAPS.tolist()} if last == "resample_filter" else list(shape)
    for name, module in generator.named_modules():
        if name.endswith(".norm"):
            _at(root, name)["attributes"]["num_groups"] = module.num_groups
    if tower is not None:
        blocks = _at(root, f"{TEXT_ENCODER}transformer.resblocks")["modules"]
        for block in blocks.values():
            block["modules"]["attn"]["attributes"]["num_heads"] = tower.text_config.heads
            block["modules"]["mlp"]["modules"]["gelu"] = {**_node("", how), "class": "QuickGELU"}
    return root


def _node(path, how):
    name = CLASSES_T.get(path, "SynthesisBlock")
    groups = {"parameters": {}, "buffers": {}, "modules": {}, "attributes": {}}
    return {"class": name, "how": how, **groups}


def _at(root, path):
    for part in path.split("."):
        root = root["modules"][part]
    return root
