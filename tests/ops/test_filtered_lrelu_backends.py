"""Compiled and Triton backends of the filtered leaky ReLU against the plain operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ops_cases import DOWN, LRELU_CASES, SKEW, UP, UP4, assert_close, assert_equal_to_second_order, normal
from torch import Tensor

from sgxl_t.ops import backend, reference
from sgxl_t.ops.filtered_lrelu import compiled as filtered_lrelu_compiled
from sgxl_t.ops.filtered_lrelu import dispatch as filtered_lrelu
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec

SAME_RATE = LreluSpec(up=2, down=2, padding=[9, 8, 9, 8])


def compiled(x: Tensor, fu: Tensor | None, fd: Tensor | None, b: Tensor, spec: LreluSpec) -> Tensor:
    with backend.use(filter="compiled", always=True):
        return filtered_lrelu.filtered_lrelu(x, fu, fd, b, spec)


def compare(case: str, x: Tensor, b: Tensor) -> None:
    args = dict(LRELU_CASES[case])
    fu, fd = args.pop("fu"), args.pop("fd")
    assert_equal_to_second_order(
        lambda x, b: compiled(x, fu, fd, b, LreluSpec(**args)),
        lambda x, b: reference.filtered_lrelu(x, fu, fd, b, LreluSpec(**args)),
        [x, b],
    )


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs run as they are written: seconds instead of minutes."""
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    monkeypatch.setattr(filtered_lrelu_compiled, "_programs", {})
    monkeypatch.setattr(filtered_lrelu_compiled, "_works", {})


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("case", LRELU_CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_programs_equal_plain_form(case: str, layout: torch.memory_format) -> None:
    x = normal(2, 3, 11, 14).detach().contiguous(memory_format=layout).requires_grad_()
    compare(case, x, normal(3))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_programs_do_not_depend_on_chunks(
    layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two channels at a time; of five channels the last chunk reaches back into the one before.
    monkeypatch.setattr(filtered_lrelu_compiled, "_CPU_BYTES", 0)
    monkeypatch.setattr(filtered_lrelu_compiled, "_CPU_VECTOR", 2)
    x = normal(3, 5, 10, 9).detach().contiguous(memory_format=layout).requires_grad_()
    compare("clamped", x, normal(5))
    assert {program.shape[-1] for program in filtered_lrelu_compiled._programs} == {2}


@pytest.mark.usefixtures("uncompiled")
def test_programs_keep_input_and_bias_only() -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        compiled(normal(2, 3, 11, 14), UP, DOWN, normal(3), LreluSpec(2, 2, 9))
    assert [t.shape for t in kept] == [(2, 3, 11, 14), (3,)]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_programs_keep_dtype_and_memory_layout(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 20, 20).to(dtype).contiguous(memory_format=layout)
    y = compiled(x, UP, DOWN, torch.zeros(3), SAME_RATE)
    plain = reference.filtered_lrelu(x.float(), UP, DOWN, spec=SAME_RATE)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    assert (y.float() - plain).norm() < (1e-6 if dtype == torch.float32 else 2e-2) * plain.norm()


@pytest.mark.slow
def test_compiled_form_equals_plain_form() -> None:
    if not filtered_lrelu_compiled.available(torch.device("cpu")):
        pytest.skip("no C++ compiler here")
    x, b = normal(1, 3, 9, 8), normal(3)
    # Other taps, same shapes: the program of before must not remember its taps.
    for fd in (DOWN, UP):
        results = []
        for call in (compiled, reference.filtered_lrelu):
            y = call(x, UP, fd, b, LreluSpec(2, 2, [9, 8, 9, 8], clamp=0.4))
            results.append([y, *torch.autograd.grad(y.pow(3).sum(), [x, b])])
        for ours, plain in zip(*results, strict=True):
            assert_close(ours, plain)


@pytest.mark.slow
@pytest.mark.parametrize("case", LRELU_CASES)
def test_all_cases_compiled(case: str) -> None:
    compare(case, normal(2, 3, 11, 14), normal(3))


@pytest.mark.slow
def test_more_shapes_than_the_compiler_counts() -> None:
    # One program too many for a code object would be an error, since nothing may run uncompiled.
    for size in range(8, 20):
        x, b = normal(1, 2, size, size, requires_grad=False), normal(2, requires_grad=False)
        ours = compiled(x, SKEW, SKEW[:4], b, LreluSpec(2, 2, 3))
        assert_close(ours, reference.filtered_lrelu(x, SKEW, SKEW[:4], b, LreluSpec(2, 2, 3)))


def test_without_a_compiler_band_filters_are_used_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(call: Any, **options: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(filtered_lrelu_compiled, "_works", {})
    x, b = normal(1, 2, 8, 8), normal(2)
    with pytest.warns(UserWarning, match="finds no working compiler for cpu .*band filters are used"):
        first = compiled(x, UP, DOWN, b, LreluSpec(2, 2, 9))
    second = compiled(x, UP, DOWN, b, LreluSpec(2, 2, 9))
    plain = filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(2, 2, 9))
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)


def test_triton_form_falls_back_where_it_cannot_run() -> None:
    x, b = normal(1, 2, 8, 8), normal(2)
    plain = filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(2, 2, 9))
    with backend.use(filter="triton"):
        assert torch.equal(filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(2, 2, 9)), plain)
    with (
        backend.use(filter="triton", always=True),
        pytest.warns(UserWarning, match="filter=triton cannot run on torch.float64 on cpu"),
    ):
        assert torch.equal(filtered_lrelu.filtered_lrelu(x, UP, DOWN, b, LreluSpec(2, 2, 9)), plain)


# Layers as networks have them: same rate, doubled rate, and critically sampled with cropping.
KERNEL_CASES: dict[str, dict[str, Any]] = {
    "same rate": {"fu": UP, "fd": DOWN, "up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 256},
    "clamped": {"fu": UP, "fd": DOWN, "up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 0.4},
    "growing": {"fu": UP4, "fd": DOWN, "up": 4, "down": 2, "padding": [-6, -9, 2, 5], "clamp": None},
    "critically sampled": {
        "fu": UP, "fd": DOWN, "up": 2, "down": 2, "padding": [-8, -9, -11, -12], "clamp": 256,
    },
    "shrinking": {"fu": UP, "fd": UP4, "up": 2, "down": 4, "padding": [14, 17, 12, 15], "clamp": 0.8},
}  # fmt: skip


def kernels_equal_plain_form() -> None:
    """Runs in a process of its own, in which Triton interprets kernels."""
    generator = torch.Generator().manual_seed(0)
    for name, case in KERNEL_CASES.items():
        args = dict(case)
        fu, fd = args.pop("fu"), args.pop("fd")
        pictures = 2 if name == "same rate" else 1  # planes are told apart alike in every case
        x = torch.randn(pictures, 2, 41, 38, generator=generator)
        b = torch.randn(2, generator=generator)
        results = []
        for plain in (False, True):
            # The plain operator in float64: what is left is the error of the kernels.
            inputs = [t.double() if plain else t.clone() for t in (x, b)]
            inputs = [t.requires_grad_() for t in inputs]
            with backend.use(filter="triton", always=True):
                call = reference.filtered_lrelu if plain else filtered_lrelu.filtered_lrelu
                y = call(inputs[0], fu, fd, inputs[1], LreluSpec(**args))
            cot = torch.linspace(-1, 2, y.numel()).view(y.shape).to(y).requires_grad_()
            first = torch.autograd.grad((y * cot).sum(), inputs, create_graph=True)
            second = torch.autograd.grad(first[0].square().sum() + first[1].sum(), cot)
            results.append([y, *first, *second])
        for part, (ours, exact) in enumerate(zip(*results, strict=True)):
            error = ((ours.double() - exact).abs().max() / exact.abs().max()).item()
            assert ours.dtype == torch.float32
            assert error < 1e-5, f"{name}, result {part}: {error}"


def test_kernels_equal_plain_form_when_interpreted() -> None:
    pytest.importorskip("triton")
    folder = Path(__file__).parent
    strict = "import warnings; warnings.filterwarnings('error', 'filter=triton'); "
    code = strict + "import test_filtered_lrelu_backends as t; t.kernels_equal_plain_form(); print('equal')"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"},
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "equal"
