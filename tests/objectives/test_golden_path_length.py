"""Path length and spherical distance equal the stored reference numbers."""

import pytest
import torch
from golden_cases import assert_golden, descriptions, tensors
from golden_networks import xl_generator

from sgxl_t.networks.conditioning import as_conditioning
from sgxl_t.objectives import MicroBatch, Objective, ObjectiveConfig, spherical_distance


@pytest.mark.golden
def test_golden_t_spherical():
    case = tensors("t_spherical")
    inputs = {name: case[name].clone().requires_grad_() for name in ("x", "y")}
    value = spherical_distance(inputs["x"], inputs["y"])
    assert_golden(value, case["value"], "t_spherical")
    value.mean().backward()
    for name, tensor in inputs.items():
        assert_golden(tensor.grad, case[f"grad_in/{name}"], "t_spherical", "grad")


class FourierInputOnly(torch.nn.Module):
    """Takes lengths along the first style alone, that of the Fourier input.

    The original CUDA stack switches weight gradients of convolutions off inside the inner gradient; as the
    styles of all convolutions live in their weights, only the first style counts there. Everything else is
    the generator itself.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def forward(self, z, cond, *, update_averages, rng, pl_noise):
        ws = self.generator.mapping(z, cond.c, update_averages=update_averages)
        first = ws[:, :1]
        images = self.generator.synthesis(torch.cat([first, ws[:, 1:]], dim=1), rng=rng)
        (slopes,) = torch.autograd.grad((images * pl_noise).sum(), first, create_graph=True)
        return images, slopes.square().sum((1, 2)).div(ws.shape[1]).sqrt()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "wrap"), [("xl_loss_pl_full", lambda g: g), ("xl_loss_pl_no_weight_grad", FourierInputOnly)]
)
def test_golden_path_length(name, wrap):
    case, ctor = tensors(name), descriptions()[name]["ctor"]
    generator = xl_generator("xl_stem16")
    # The stored gradients are those of weight * mean penalty: our scale as it stands.
    objective = Objective(ObjectiveConfig(pl_weight=ctor["pl_weight"], pl_start_kimg=ctor["cur_nimg"] / 1000))
    assert "pl" in objective.phases(0, ctor["cur_nimg"])
    objective.load_state_dict({"path_length.mean": case["pl_mean_before"]})
    noise = case["pl_noise_unscaled"] / 16
    batch = MicroBatch(None, as_conditioning(case["gen_c"].argmax(1)))
    loss, _ = objective.pl_loss(wrap(generator), batch, case["z"], noise=noise)
    assert_golden(objective.path_length.mean, case["pl_mean_after"], name)
    assert_golden(loss, case["value/G/reg"].mean(), name)
    loss.backward()
    _assert_gradients(generator, name)


def _assert_gradients(generator, name):
    case, entry = tensors(name), descriptions()[name]
    parameters = dict(generator.named_parameters())
    assert {key for key, value in parameters.items() if value.grad is not None} == set(
        entry["params_with_grad"]
    )
    vanishing = set(entry["grads_mathematically_zero"])
    for key in (key for key in case if key.startswith("grad/") and key not in vanishing):
        assert_golden(parameters[key.removeprefix("grad/")].grad, case[key], name, "grad")
