"""Pretrained networks, small here, and random mixing layers."""

import timm
import torchvision
from feature_networks.vit import make_vit_backbone
from torch import nn

from pg_modules.blocks import FeatureFusionBlock


def make_cnn():
    """The first layers of an EfficientNet of timm's."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    pretrained = nn.Module()
    pretrained.layer0 = nn.Sequential(model.conv_stem, model.bn1, *model.blocks[0:2])
    pretrained.layer1 = nn.Sequential(*model.blocks[2:3])
    return pretrained


def make_resnet():
    """The first layers of a ResNet of torchvision's."""
    model = torchvision.models.resnet18()
    pretrained = nn.Module()
    pretrained.layer0 = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1)
    pretrained.layer1 = model.layer2
    return pretrained


class F_RandomProj(nn.Module):  # noqa: N801
    def __init__(self, one):
        super().__init__()
        self.proj_type, self.backbone, self.cout, self.expand = 2, one["name"], one["cout"], True
        kinds = {"cnn": make_cnn, "resnet": make_resnet}
        if one["kind"] == "vit":
            self.pretrained = make_vit_backbone(one["adapter"])
        else:
            self.pretrained = kinds[one["kind"]]()
        self.scratch = nn.Module()
        for name, shape in one["scratch"].items():
            mixes = name.endswith("_csm")
            layer = FeatureFusionBlock(shape) if mixes else nn.Conv2d(shape[1], shape[0], shape[2])
            setattr(self.scratch, name, layer)
