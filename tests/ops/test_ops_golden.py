"""Every operation against stored reference numbers: values, and gradients of the scalar sum(y * cot)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden_cases import assert_golden, descriptions, tensors
from torch import Tensor

from sgxl_t.ops import backend
from sgxl_t.ops.bias_act import bias_act
from sgxl_t.ops.conv.modulated_conv import ConvSpec, modulated_conv, modulated_conv_sg3
from sgxl_t.ops.diff_augment import diff_augment
from sgxl_t.ops.filtered_lrelu import compiled as filtered_lrelu_compiled
from sgxl_t.ops.filtered_lrelu.dispatch import filtered_lrelu
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec
from sgxl_t.ops.resample import filters, resample
from sgxl_t.ops.resample.blur import gaussian_blur

Case = tuple[dict[str, Tensor], dict[str, Any]]


def subcases(name: str) -> list[Any]:
    return [
        pytest.param(name, entry, id=f"{name}-golden-{entry['prefix'].strip('/')}")
        for entry in descriptions()[name]["subcases"]
    ]


def check(name: str, entry: dict[str, Any], call: Callable[..., Tensor | None]) -> None:
    """Calls `call(data, args)` with leaf tensors where gradients are stored, and compares all of it."""
    prefix = entry["prefix"]
    data = {k.removeprefix(prefix): v.clone() for k, v in tensors(name).items() if k.startswith(prefix)}
    leaves = [key.removeprefix("grad/") for key in data if key.startswith("grad/")]
    for key in leaves:
        data[key].requires_grad_()
    y = call(data, dict(entry["args"]))
    if y is None:
        assert "y" not in data
        return
    assert_golden(y, data["y"], name)
    if leaves:
        grads = torch.autograd.grad((y * data["cot"]).sum(), [data[key] for key in leaves])
        for key, grad in zip(leaves, grads, strict=True):
            assert_golden(grad, data[f"grad/{key}"], name, "grad")


def call_filtered_lrelu(data: dict[str, Tensor], args: dict[str, Any]) -> Tensor:
    fu, fd = data.get("fu"), data.get("fd")
    if args.pop("flip_filter"):
        # Our filters are always convolved; correlating is convolving with the taps turned round.
        fu, fd = fu.flip(0), fd.flip(0)
    return filtered_lrelu(data["x"], fu, fd, data["b"], LreluSpec(**args))


def call_modconv_sg3(data: dict[str, Tensor], args: dict[str, Any]) -> Tensor:
    args["input_gain"] = data.get("input_gain")
    return modulated_conv_sg3(data["x"], data["w"], data["s"], **args)


def call_modconv(data: dict[str, Tensor], args: dict[str, Any]) -> Tensor:
    fir = tensors("t_modconv")["resample_filter"]
    args.pop("noise", None)  # tells only whether there is one
    x, w, s = data["x"], data["w"], data["s"]
    return modulated_conv(x, w, s, ConvSpec(**args), resample_filter=fir, noise=data.get("noise"))


def call_diff_augment(data: dict[str, Tensor], args: dict[str, Any]) -> Tensor:
    draws = {key.removeprefix("draw/"): value for key, value in data.items() if key.startswith("draw/")}
    return diff_augment(data["x"], args["policy"], draws=draws)


CALLS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Tensor | None]] = {
    "ops_bias_act": lambda data, args: bias_act(data["x"], data.get("b"), **args),
    "ops_setup_filter": lambda data, args: filters.setup_filter(data["f"], **args),
    "ops_lowpass_design": lambda data, args: filters.lowpass_filter(**args),
    "ops_upfirdn2d": lambda data, args: resample.upfirdn2d(data["x"], data.get("f"), **args),
    "ops_filtered_lrelu": call_filtered_lrelu,
    "ops_modconv_sg3": call_modconv_sg3,
    "t_modconv": call_modconv,
    "loss_blur": lambda data, args: gaussian_blur(data["x"], args["sigma"]),
    "loss_diffaug": call_diff_augment,
}


@pytest.mark.golden
@pytest.mark.parametrize(("name", "entry"), [case for name in CALLS for case in subcases(name)])
def test_operation_golden(name: str, entry: dict[str, Any]) -> None:
    check(name, entry, CALLS[name])


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "entry"), [case for name in ("ops_modconv_sg3", "t_modconv") for case in subcases(name)]
)
def test_modulated_conv_golden_in_winograd_form(name: str, entry: dict[str, Any]) -> None:
    with backend.use(conv="winograd", always=True):
        check(name, entry, CALLS[name])


@pytest.mark.golden
@pytest.mark.parametrize(("name", "entry"), subcases("ops_filtered_lrelu"))
def test_filtered_lrelu_golden_in_compiled_form(
    name: str, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The programs as they are written: compiling each takes seconds.
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    monkeypatch.setattr(filtered_lrelu_compiled, "_programs", {})
    monkeypatch.setattr(filtered_lrelu_compiled, "_works", {})
    with backend.use(filter="compiled", always=True):
        check(name, entry, CALLS[name])


@pytest.mark.golden
@pytest.mark.parametrize(("name", "entry"), subcases("ops_resample_helpers"))
def test_resample_helpers_golden(name: str, entry: dict[str, Any]) -> None:
    helper = getattr(resample, entry["fn"])
    check(name, entry, lambda data, args: helper(data["x"], data["f"], **args))
