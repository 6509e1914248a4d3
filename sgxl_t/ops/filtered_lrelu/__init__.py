"""Alias-free leaky ReLU (upsample, activate, downsample): one operator, its plan, and the backends that
compute it."""
