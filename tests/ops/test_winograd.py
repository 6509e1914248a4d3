"""Winograd's convolution against the plain one: values, gradients, caches, and where it is chosen."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ops_cases import F64, assert_equal_to_second_order, normal
from torch import Tensor

from sgxl_t.ops import backend, reference
from sgxl_t.ops.conv import modulated_conv, winograd
from sgxl_t.ops.conv.modulated_conv import ConvSpec


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 14), (3, 3)])
def test_equals_plain_convolution(size: tuple[int, int], padding: int) -> None:
    assert_equal_to_second_order(
        lambda x, w: winograd.conv2d(x, w, padding),
        lambda x, w: F.conv2d(x, w, padding=padding),
        [normal(2, 3, *size), normal(4, 3, 3, 3)],
    )


@pytest.mark.parametrize("elements", [1, 36 * 4 * 3 * 2, 36 * 4 * 3 * 7])
def test_does_not_depend_on_chunks(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CPU_ELEMENTS", "_CPU_ELEMENTS_TRAINING", "_CPU_WEIGHT_ELEMENTS"):
        monkeypatch.setattr(winograd, name, elements)
    monkeypatch.setattr(winograd, "_PART_MULTIPLE", 1)
    assert_equal_to_second_order(
        lambda x, w: winograd.conv2d(x, w, 1),
        lambda x, w: F.conv2d(x, w, padding=1),
        [normal(3, 3, 9, 11), normal(4, 3, 3, 3)],
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_error_in_single_precision_at_the_size_of_a_layer(layout: torch.memory_format) -> None:
    x, weight = normal(1, 1024, 12, 12, requires_grad=False), normal(64, 1024, 3, 3, requires_grad=False)
    ours = winograd.conv2d(x.float().contiguous(memory_format=layout), weight.float(), 2)
    exact = F.conv2d(x, weight, padding=2)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-5 * exact.abs().max().item())
    assert (ours.double() - exact).norm() < 4e-6 * exact.norm()


def test_weights_changed_in_place_are_noticed() -> None:
    x, weight = normal(1, 2, 6, 6, requires_grad=False), normal(2, 2, 3, 3, requires_grad=False)
    for step in (lambda: weight.mul_(2), lambda: weight.copy_(weight.flip(0)), lambda: None):
        step()
        torch.testing.assert_close(winograd.conv2d(x, weight), F.conv2d(x, weight))
        torch.testing.assert_close(winograd.conv2d(x, weight), F.conv2d(x, weight))
    weight.data = normal(2, 2, 3, 3, seed=3, requires_grad=False)
    torch.testing.assert_close(winograd.conv2d(x, weight), F.conv2d(x, weight))


def test_transformed_weights_are_kept_for_sampling_only_and_go_with_their_weight() -> None:
    winograd.forget()
    x, weight = normal(1, 2, 6, 6), normal(2, 2, 3, 3)
    winograd.conv2d(x, weight).sum().backward()
    assert len(winograd._transforms) == 0
    with torch.no_grad():
        winograd.conv2d(x, weight)
        first = winograd._transforms(weight)
        winograd.conv2d(x, weight)
        assert winograd._transforms(weight) is first
    with torch.inference_mode():
        winograd.conv2d(x, weight)
        assert winograd._transforms(weight) is first
    del weight
    assert len(winograd._transforms) == 0


def test_weights_kept_in_inference_mode_serve_training_too() -> None:
    x, weight = normal(1, 2, 6, 6), normal(2, 2, 3, 3, requires_grad=False)
    with torch.inference_mode():
        winograd.conv2d(x, weight)
    (grad,) = torch.autograd.grad(winograd.conv2d(x, weight).square().sum(), x)
    (plain,) = torch.autograd.grad(F.conv2d(x, weight).square().sum(), x)
    torch.testing.assert_close(grad, plain)


def test_keeps_nothing_but_input_and_weight_for_the_backward_pass() -> None:
    kept: list[Tensor] = []
    x, weight = normal(1, 2, 6, 6), normal(2, 2, 3, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        winograd.conv2d(x, weight)
    assert [t.shape for t in kept] == [x.shape, weight.shape]


def test_empty_batches_stay_empty() -> None:
    assert winograd.conv2d(torch.empty(0, 2, 6, 6), torch.ones(4, 2, 3, 3), 1).shape == (0, 4, 6, 6)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(1, 2, 6, 6), torch.ones(4, 2, 1, 1)),
        (torch.ones(1, 3, 6, 6), torch.ones(4, 2, 3, 3)),
        (torch.ones(1, 2, 6, 6).half(), torch.ones(4, 2, 3, 3).half()),
        (torch.ones(1, 2, 2, 2), torch.ones(4, 2, 3, 3)),
    ],
)
def test_mistakes_are_named(x: Tensor, weight: Tensor) -> None:
    with pytest.raises(ValueError, match=r"give|pad more"):
        winograd.conv2d(x, weight)


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv_sg3_in_winograd_form(demodulate: bool) -> None:
    gain = torch.rand(4, dtype=F64) + 0.5
    args: dict[str, Any] = {"demodulate": demodulate, "padding": 2, "input_gain": gain}

    def call(*inputs: Tensor) -> Tensor:
        with backend.use(conv="winograd", always=True):
            return modulated_conv.modulated_conv_sg3(*inputs, **args)

    inputs = [normal(2, 4, 5, 6), normal(3, 4, 3, 3), normal(2, 4)]
    assert_equal_to_second_order(call, lambda *a: reference.modulated_conv_sg3(*a, **args), inputs)


@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("kernel", "up", "down"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (1, 1, 1)])
def test_modulated_conv_in_winograd_form(kernel: int, up: int, down: int, flip_weight: bool) -> None:
    spec = ConvSpec(up, down, kernel // 2, flip_weight=flip_weight)

    def call(*inputs: Tensor) -> Tensor:
        with backend.use(conv="winograd", always=True):
            return modulated_conv.modulated_conv(*inputs, spec)

    inputs = [normal(2, 4, 6, 6), normal(3, 4, kernel, kernel), normal(2, 4)]
    assert_equal_to_second_order(call, lambda *a: reference.modulated_conv(*a, spec), inputs)


def chosen(channels: int = 512, size: int = 32, kernel: int = 3, dtype: torch.dtype = torch.float32) -> str:
    x = torch.empty(1, channels, size, size, dtype=dtype)
    return backend.conv_backend(x, torch.empty(channels, channels, kernel, kernel))


def test_winograd_is_taken_only_when_asked_for_and_where_it_pays() -> None:
    assert chosen() == "direct"
    with backend.use(conv="winograd"):
        assert chosen() == "winograd"
        assert chosen(channels=16) == chosen(size=16) == "direct"
        assert chosen(channels=1024, size=16) == "winograd"
        assert chosen(kernel=1) == chosen(dtype=torch.bfloat16) == "direct"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert chosen() == "direct"
        with backend.use(always=True):
            assert chosen(channels=16) == "winograd"
        with backend.use(conv="direct"):
            assert chosen() == "direct"
        assert chosen() == "winograd"
    assert chosen() == "direct"


def test_winograd_needs_larger_batches_where_weights_are_trained() -> None:
    weight = torch.empty(512, 512, 3, 3, requires_grad=True)
    with backend.use(conv="winograd"):
        assert backend.conv_backend(torch.empty(1, 512, 32, 32), weight) == "direct"
        assert backend.conv_backend(torch.empty(4, 512, 32, 32), weight) == "winograd"
        with torch.no_grad():
            assert backend.conv_backend(torch.empty(1, 512, 32, 32), weight) == "winograd"


def test_a_block_ends_with_an_error_too() -> None:
    with pytest.raises(RuntimeError), backend.use(conv="winograd"):
        raise RuntimeError
    assert chosen() == "direct"


def test_blocks_concern_their_own_thread_and_defaults_all() -> None:
    seen: list[str] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(chosen()))
        thread.start()
        thread.join()

    with backend.use(conv="winograd"):
        look()
    before = backend.set_default(conv="winograd")
    look()
    backend.set_default(conv=before.conv, filter=before.filter, always=before.always)
    look()
    assert seen == ["direct", "winograd", "direct"]


def test_unknown_forms_are_named() -> None:
    with pytest.raises(ValueError, match=r"conv='fft'.*direct, winograd"):
        backend.Backend(conv="fft")  # type: ignore[arg-type]
    with (
        pytest.raises(ValueError, match=r"filter='cuda'.*band, compiled, triton"),
        backend.use(
            filter="cuda"  # type: ignore[arg-type]
        ),
    ):
        pass
