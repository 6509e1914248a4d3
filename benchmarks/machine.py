"""Prints what a machine can do at most: matrix products and copies, as one JSON object.

    python benchmarks/machine.py [--device cuda] [--threads N] [--quick]

GFLOP/s of products in each dtype (on a GPU also TF32), GB/s of a copy with reads and writes counted.
"""

from __future__ import annotations

import argparse
import json
import platform

import torch

from sgxl_t.bench.machine import load, measure_roof
from sgxl_t.bench.timing import clock_name


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="small matrices")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = clock_name(device, options.threads)
    found = {
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "threads": options.threads,
        "clock": clock,
        "load": load(),
    }
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for name, dtype in kinds.items():
        roof = measure_roof(dtype, device, clock, small=options.quick)
        found |= {f"gemm_{name}_gflop_per_s": round(roof.gemm, 1), "copy_gb_per_s": round(roof.copy, 1)}
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        found["gemm_tf32_gflop_per_s"] = round(measure_roof(torch.float32, device, clock).gemm, 1)
        found["memory_gib"] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
