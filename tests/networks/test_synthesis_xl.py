"""Fourier input and synthesis layer of the alias-free generator."""

import pytest
import torch
from golden_cases import assert_golden, descriptions, state_of, tensors

from sgxl_t.networks.generators.fourier_input import SynthesisInput
from sgxl_t.networks.generators.schedule_xl import LayerSpec
from sgxl_t.networks.generators.synthesis_xl import SynthesisLayer

LAYERS = ["critical", "down_to_crit_size", "radial_1x1", "rate_decrease", "same_rate", "torgb", "up2"]


def layer_of(name):
    ctor = dict(descriptions()[name]["ctor"])
    ctor["kernel"] = 1 if ctor["is_torgb"] else ctor["conv_kernel"]
    fields = {field: ctor[field] for field in LayerSpec.__dataclass_fields__ if field in ctor}
    return SynthesisLayer(LayerSpec(index=0, **fields), ctor["w_dim"])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["xl_synthesis_input", "xl_synthesis_input_small"])
def test_golden_synthesis_input(name):
    ctor, stored = descriptions()[name]["ctor"], tensors(name)
    size = ctor["size"] if isinstance(ctor["size"], int) else tuple(ctor["size"])
    layer = SynthesisInput(ctor["w_dim"], ctor["channels"], size, ctor["sampling_rate"], ctor["bandwidth"])
    layer.load_state_dict(state_of(name))
    w = stored["w"].clone().requires_grad_()
    y = layer(w)
    assert_golden(y, stored["y"], name)
    (y * stored["cot"]).sum().backward()
    assert_golden(w.grad, stored["grad_in/w"], name, "grad")
    for key, parameter in layer.named_parameters():
        assert_golden(parameter.grad, stored[f"grad/{key}"], name, "grad")


@pytest.mark.golden
@pytest.mark.parametrize("name", [f"xl_layer_{kind}" for kind in LAYERS])
def test_golden_synthesis_layer(name):
    stored, layer = tensors(name), layer_of(name)
    designed = {key: value.clone() for key, value in layer.state_dict().items() if key.endswith("_filter")}
    layer.load_state_dict(state_of(name))
    for key, taps in designed.items():
        torch.testing.assert_close(taps, getattr(layer, key), rtol=1e-5, atol=1e-7)
    x, w = stored["x"].clone().requires_grad_(), stored["w"].clone().requires_grad_()
    y = layer(x, w)
    assert_golden(y, stored["y"], name)
    (y * stored["cot"]).sum().backward()
    assert_golden(x.grad, stored["grad_in/x"], name, "grad")
    assert_golden(w.grad, stored["grad_in/w"], name, "grad")
    for key, parameter in layer.named_parameters():
        assert_golden(parameter.grad, stored[f"grad/{key}"], name, "grad")
    beta = descriptions()[name]["ctor"]["magnitude_ema_beta"]
    assert_golden(layer(x, w, magnitude_beta=beta), stored["y_emas"], name)
    assert_golden(layer.magnitude_ema, stored["magnitude_ema_after"], name)


def test_frequencies_fill_a_disc_and_the_input_starts_unrotated():
    torch.manual_seed(0)
    layer = SynthesisInput(8, 4000, 16, 16, 2.0)
    radii = layer.freqs.norm(dim=1)
    assert radii.max() <= 2.0
    # Uniform on a disc of radius 2: half of the points lie inside radius sqrt(2).
    assert (radii < 2**0.5).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert layer.phases.abs().max() <= 0.5
    small = SynthesisInput(8, 6, 16, 16, 2.0)
    y = small(torch.randn(2, 8))
    torch.testing.assert_close(y[0], y[1])


def test_user_transform_shifts_the_plane():
    torch.manual_seed(0)
    layer = SynthesisInput(8, 6, 16, 16, 2.0)
    w = torch.zeros(1, 8)
    still = layer(w)
    # The inverse transform moves the grid by two samples (2 / 16 of a picture) to the right.
    layer.transform[0, 2] = 2 / 16
    torch.testing.assert_close(layer(w)[:, :, :, :-2], still[:, :, :, 2:], rtol=1e-4, atol=1e-5)


def test_half_precision_stays_close_and_keeps_styles_in_float32():
    layer = layer_of("xl_layer_same_rate")
    layer.load_state_dict(state_of("xl_layer_same_rate"))
    stored = tensors("xl_layer_same_rate")
    seen = []
    layer.affine.register_forward_hook(lambda _module, _inputs, style: seen.append(style.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(stored["x"], stored["w"])
    assert y.dtype == torch.bfloat16
    assert seen == [torch.float32]
    assert (y.float() - stored["y"]).abs().max() < 0.03 * stored["y"].abs().max()
