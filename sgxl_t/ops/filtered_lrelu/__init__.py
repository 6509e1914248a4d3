"""Alias-free leaky ReLU: one operator, its plan, and the backends that compute it."""
