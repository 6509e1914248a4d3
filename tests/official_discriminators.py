"""Discriminators in the official layout: ordinary torch modules under the release's class names."""

from __future__ import annotations

import functools
import pickle
import sys
import types

import torch
from official_pickles import full, release_names
from torch import nn


class ProjectedDiscriminator(nn.Module):
    pass


class MultiScaleD(nn.Module):
    pass


class SingleDiscCond(nn.Module):
    pass


class DownBlock(nn.Module):
    pass


class FeatureFusionBlock(nn.Module):
    pass


class F_RandomProj(nn.Module):  # noqa: N801
    pass


HOMES = {
    "pg_modules.discriminator": [ProjectedDiscriminator, MultiScaleD, SingleDiscCond],
    "pg_modules.blocks": [DownBlock, FeatureFusionBlock],
    "pg_modules.projector": [F_RandomProj],
}


def filled(kind, **children):
    """A module of the given children."""
    module = kind()
    for name, child in children.items():
        module._modules[name] = child
    return module


def convolution(stored):
    """A convolution with torch's older form of spectral normalisation."""
    shape = stored.weight_orig.shape
    conv = nn.utils.spectral_norm(nn.Conv2d(shape[1], shape[0], shape[2], bias=stored.bias is not None))
    conv.load_state_dict(stored.state_dict())
    return conv


def head(stored):
    blocks = [
        filled(DownBlock, main=nn.Sequential(convolution(block.main[0]), block.main[1], nn.LeakyReLU(0.2)))
        for block in stored.main
    ]
    table = nn.Embedding(24, stored.embed.embedding_dim)
    with torch.no_grad():
        table.weight[: stored.embed.num_embeddings] = stored.embed.weight
    return filled(
        SingleDiscCond,
        main=nn.Sequential(*blocks),
        cls=convolution(stored.cls),
        embed=table,
        embed_proj=full(stored.embed_proj),
    )


def features(projection):
    """Mixing layers, a pretrained network of the name, and a transformer's adapters among its layers."""
    mixing = dict(projection.scratch.named_children())
    for name, child in mixing.items():
        if name.endswith("_csm"):
            mixing[name] = filled(FeatureFusionBlock, out_conv=child.out_conv)
    network = {"layer1": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))}
    if projection.adapter is not None:
        network = {"model": nn.Linear(3, 3)}
        for name, layers in projection.adapter.named_children():
            first = [nn.Identity(), nn.Identity(), nn.Identity()]
            network[name] = nn.Sequential(*first, *layers)
        network["model"].norm_layer = functools.partial(nn.LayerNorm, eps=1e-6)
    return filled(F_RandomProj, pretrained=filled(nn.Module, **network), scratch=filled(nn.Module, **mixing))


def official_discriminator(discriminator, names):
    """A discriminator of ours as an object of the release, its networks under the given names."""
    parts = zip(names, discriminator.heads.networks, discriminator.features.projections, strict=True)
    discriminators, networks = {}, {}
    for name, heads, projection in parts:
        minis = {str(level): head(mini) for level, mini in enumerate(heads.mini_discs)}
        discriminators[name] = filled(MultiScaleD, mini_discs=filled(nn.ModuleDict, **minis))
        networks[name] = features(projection)
    return filled(
        ProjectedDiscriminator,
        discriminators=filled(nn.ModuleDict, **discriminators),
        feature_networks=filled(nn.ModuleDict, **networks),
    )


def write_with_discriminator(path, content):
    """As `write_official`, with the discriminator's modules too."""
    old = {}
    packages = {home.split(".")[0] for home in HOMES}
    try:
        for package in packages:
            sys.modules[package] = types.ModuleType(package)
        for home, kinds in HOMES.items():
            sys.modules[home] = types.ModuleType(home)
            for kind in kinds:
                old[kind], kind.__module__ = kind.__module__, home
                setattr(sys.modules[home], kind.__name__, kind)
        with release_names():
            path.write_bytes(pickle.dumps(content, protocol=4))
    finally:
        for kind, home in old.items():
            kind.__module__ = home
        for name in {*HOMES, *packages}:
            sys.modules.pop(name, None)
    return path
