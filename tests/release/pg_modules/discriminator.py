"""Heads by network and level."""

from torch import nn
from torch_utils.persistence import persistent_class

from pg_modules.blocks import DownBlock, conv2d
from pg_modules.projector import F_RandomProj


@persistent_class
class FullyConnectedLayer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.activation = "lrelu"
        linear = nn.Linear(shape[1], shape[0])
        self.weight, self.bias = linear.weight, linear.bias


class SingleDisc(nn.Module):
    def __init__(self, head):
        super().__init__()
        blocks = [DownBlock(shape) for shape in head["blocks"]]
        self.main = nn.Sequential(*blocks, conv2d(head["last"], bias=False, padding=2))


class SingleDiscCond(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.main = nn.Sequential(*[DownBlock(shape) for shape in head["blocks"]])
        self.cls = conv2d(head["last"], bias=False, padding=2)
        self.embed = nn.Embedding(*head["table"])
        self.embed_proj = FullyConnectedLayer(head["embed_proj"])


class MultiScaleD(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.disc_in_channels = [head["last"][1] for head in heads]
        made = [(SingleDiscCond if "table" in head else SingleDisc)(head) for head in heads]
        self.mini_discs = nn.ModuleDict({str(level): one for level, one in enumerate(made)})


class ProjectedDiscriminator(nn.Module):
    def __init__(self, networks):
        super().__init__()
        self.interp224 = True
        self.discriminators = nn.ModuleDict({one["name"]: MultiScaleD(one["heads"]) for one in networks})
        self.feature_networks = nn.ModuleDict({one["name"]: F_RandomProj(one) for one in networks})
