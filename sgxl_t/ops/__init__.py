"""Functions on tensors; imports nothing of the package's other floors."""
