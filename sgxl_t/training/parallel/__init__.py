"""Processes and devices: how a trained network is held under DDP, DeepSpeed or FSDP2, and what all processes
agree on."""
