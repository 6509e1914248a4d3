"""`sgxl-t doctor`: what this machine can do."""

from __future__ import annotations

import os
import platform
import threading
import urllib.error
import urllib.request
from importlib import metadata
from typing import Any

import click

import sgxl_t
from sgxl_t.files.terminal import say, say_json

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "open-clip-torch",
    "accelerate",
    "deepspeed",
    "safetensors",
    "webdataset",
)
HUB_SECONDS = 4.0
GIB = 2**30


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Says which versions, processors, memory and devices there are, and what they are good for."""
    found = examine()
    if as_json:
        say_json(found)
        return
    for group in ("versions", "machine"):
        for name, value in found[group].items():
            say(f"{name:18} {'not installed' if value is None else value}")
    for device in found["devices"]:
        say(f"{'device':18} {device['name']}: {device['what']}")
    say(f"{'model hub':18} {found['hub']}")
    say("")
    for line in found["advice"]:
        say(f"- {line}")


def examine() -> dict[str, Any]:
    """Everything the command prints, as JSON values; takes at most a few seconds, also without a network."""
    answer: list[str] = []
    # Name look-ups have no time limit of their own, so the question runs beside us and may be left behind.
    asking = threading.Thread(target=lambda: answer.append(_ask_hub()), daemon=True)
    asking.start()
    versions = {"sgxl-t": sgxl_t.__version__, "python": platform.python_version()}
    devices = _devices()
    machine = _machine()
    asking.join(HUB_SECONDS)
    hub = answer[0] if answer else f"no answer within {HUB_SECONDS:.0f} seconds"
    return {
        "versions": versions | {name: _version(name) for name in PACKAGES},
        "machine": machine,
        "devices": devices,
        "hub": hub,
        "advice": _advice(devices, machine, hub),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "processor cores": usable, "memory GiB": _memory_gib()}


def _memory_gib() -> float | None:
    """Memory this process may use: the machine's, or the container's limit where it is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max") as stream:
            limit = stream.read().strip()
        total = min(total, int(limit)) if limit.isdigit() else total
    except OSError:
        pass
    return round(total / GIB, 1)


def _devices() -> list[dict[str, str]]:
    import torch

    from sgxl_t.networks.backbones.precision import cpu_multiplies_bf16

    kinds = "fp32 and bf16" if cpu_multiplies_bf16() else "fp32 (no instructions for bf16)"
    found = [{"name": "cpu", "what": f"{torch.get_num_threads()} threads, {kinds}"}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        kinds = (
            "fp32, fp16 and bf16"
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else "fp32 and fp16"
        )
        what = f"{properties.name}, {properties.total_memory / GIB:.0f} GiB, {kinds}"
        found.append({"name": f"cuda:{index}", "what": what})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "what": "Apple GPU, fp32 and fp16"})
    return found


def _ask_hub() -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return "switched off by HF_HUB_OFFLINE"
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=HUB_SECONDS - 1):
            return f"reachable at {address}"
    except urllib.error.HTTPError:
        return f"reachable at {address}"
    except (OSError, ValueError) as error:
        return f"not reachable at {address} ({str(getattr(error, 'reason', error))[:100]})"


def _advice(devices: list[dict[str, str]], machine: dict[str, Any], hub: str) -> list[str]:
    advice = []
    if len(devices) > 1:
        advice.append(
            "sampling and training run on the GPU; several GPUs: accelerate launch scripts/train.py"
        )
    else:
        advice.append("no GPU: sampling works; train small models up to about 32 pixels, as make demo does")
    if hub.startswith("reachable"):
        advice.append("pretrained feature networks and models can be fetched from the hub")
    else:
        advice.append(
            "no hub: train local feature networks on your pictures with sgxl-t features train --data D"
        )
    if machine["memory GiB"] is not None and machine["memory GiB"] < 4:
        advice.append("less than 4 GiB of memory: use a small --batch-size")
    return advice
