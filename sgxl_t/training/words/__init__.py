"""A small text tower of our own, fitted to the features of a large sentence encoder (distillation)."""
