"""Pieces of heads and mixing layers."""

import torch
from torch import nn
from torch.nn.utils import spectral_norm

try:
    from torch.nn.quantized import FloatFunctional
except ImportError:
    from torch.ao.nn.quantized import FloatFunctional


def conv2d(shape, bias=True, **options):
    """A convolution with torch's older form of spectral normalisation, used once; shape: [out, in, k, k]."""
    conv = spectral_norm(nn.Conv2d(shape[1], shape[0], shape[2], bias=bias, **options))
    conv(torch.zeros(1, shape[1], 8, 8))
    return conv


class DownBlock(nn.Module):
    def __init__(self, shape):
        super().__init__()
        conv = conv2d(shape, stride=2, padding=1)
        self.main = nn.Sequential(conv, nn.BatchNorm2d(shape[0]), nn.LeakyReLU(0.2, inplace=True))


class FeatureFusionBlock(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.deconv = False
        self.out_conv = nn.Conv2d(shape[1], shape[0], shape[2])
        self.skip_add = FloatFunctional()
