"""Mapping network of StyleGAN-XL: styles, averages, truncation."""

import pytest
import torch
from golden_cases import assert_golden, descriptions, state_of, tensors

from sgxl_t.model_io.published.names import CLASS_TABLE, generator_from_official
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig, StyleGAN3Config
from sgxl_t.networks.generators.mapping_xl import MappingXL

SIZES = GeneratorConfig(z_dim=16, stylegan3=StyleGAN3Config(w_dim=24, embed_proj_dim=16))
CLASSES = ConditionSpec(kind="class", dim=12, num_classes=5)
TEXT = ConditionSpec(kind="text", dim=12)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["xl_mapping_cond", "xl_mapping_uncond"])
def test_golden_mapping(name):
    ctor, stored = descriptions()[name]["ctor"], tensors(name)
    condition = CLASSES if ctor["c_dim"] else ConditionSpec()
    mapping = MappingXL(SIZES, condition, ctor["num_ws"])
    official = {f"mapping.{key}": value for key, value in state_of(name).items()}
    ours = generator_from_official(official, condition)
    mapping.load_state_dict({key.removeprefix("mapping."): value for key, value in ours.items()})
    assert set(official) - set(ours) <= {CLASS_TABLE}
    z = stored["z"].clone().requires_grad_()
    c = stored["c"].argmax(dim=1) if "c" in stored else None
    ws = mapping(z, c)
    assert_golden(ws, stored["ws"], name)
    (ws * stored["cot"]).sum().backward()
    assert_golden(z.grad, stored["grad_in/z"], name, "grad")
    for key, parameter in mapping.named_parameters():
        assert_golden(parameter.grad, stored[f"grad/{key}"], name, "grad")
    assert_golden(mapping(z, c, truncation_psi=0.7), stored["ws_psi07"], name)
    assert_golden(mapping(z, c, truncation_psi=0.5, truncation_cutoff=3), stored["ws_psi05_cut3"], name)
    assert_golden(mapping(z, c, update_averages=True), stored["ws_emas"], name)
    assert_golden(mapping.w_avg, stored["w_avg_after"], name)


@pytest.mark.golden
def test_golden_xl_embedding_file():
    """Facts of the published table fit together and the ImageNet networks take a table of that shape."""
    case, stored = descriptions()["xl_embedding_file"], tensors("xl_embedding_file")
    condition = ConditionSpec(kind="class", dim=320, num_classes=1000)
    with torch.device("meta"):
        mapping = MappingXL(GeneratorConfig(), condition, 12)
    rows, dim = mapping.embed.weight.shape
    assert stored["row_norms"].shape == stored["row_means"].shape == (rows,)
    assert stored["row_means"].double().mean().item() == pytest.approx(case["mean"], rel=1e-4)
    mean_square = stored["row_norms"].double().square().mean().item() / dim
    assert (mean_square - case["mean"] ** 2) ** 0.5 == pytest.approx(case["std"], rel=1e-5)


@pytest.mark.parametrize("condition", [CLASSES, TEXT, ConditionSpec()], ids=lambda spec: spec.kind)
def test_psi_zero_gives_the_center_and_cutoff_keeps_the_rest(condition):
    torch.manual_seed(0)
    mapping = MappingXL(SIZES, condition, 6)
    c = {"class": torch.tensor([1, 3]), "text": torch.randn(2, 12), "none": None}[condition.kind]
    z = torch.randn(2, 16)
    if mapping.w_avg is not None:
        mapping.w_avg.normal_()
    center, ws = mapping.center(c), mapping(z, c)
    cut = mapping(z, c, truncation_psi=0.0, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], center.expand(2, -1).unsqueeze(1).expand(-1, 2, -1))
    torch.testing.assert_close(cut[:, 2:], ws[:, 2:])
    assert mapping(z, c, truncation_psi=0.5, truncation_cutoff=99).shape == (2, 6, 24)


def test_text_center_is_the_mean_style_of_the_prompt():
    torch.manual_seed(0)
    mapping = MappingXL(SIZES, TEXT, 1)
    prompt = torch.nn.functional.normalize(torch.randn(1, 12), dim=1)
    center = mapping.center(prompt)
    torch.testing.assert_close(center, mapping.center(prompt), rtol=0, atol=0)
    z = torch.randn(4096, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        mean = mapping(z, prompt.expand(4096, -1))[:, 0].mean(dim=0)
    spread = mapping(z[:256], prompt.expand(256, -1))[:, 0].std(dim=0).mean()
    assert (center[0] - mean).abs().mean() < 0.2 * spread
    assert not center.requires_grad


def test_class_table_and_projection_are_trained():
    torch.manual_seed(0)
    mapping = MappingXL(SIZES, CLASSES, 2)
    mapping(torch.randn(3, 16), torch.tensor([4, 4, 0])).square().sum().backward()
    touched = mapping.embed.weight.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [True, False, False, False, True]
    assert mapping.embed_proj.weight.grad.abs().sum() > 0


def test_wrong_latents_are_refused():
    mapping = MappingXL(SIZES, ConditionSpec(), 2)
    with pytest.raises(ValueError, match=r"pass z \[N, 16\]"):
        mapping(torch.zeros(2, 17))
    with pytest.raises(ValueError, match="as many of each"):
        MappingXL(SIZES, TEXT, 2)(torch.zeros(2, 16), torch.zeros(3, 12))


def test_official_table_is_cut_to_the_classes_in_use():
    official = {CLASS_TABLE: torch.randn(1000, 320), "mapping.w_avg": torch.zeros(10, 512)}
    ours = generator_from_official(official, ConditionSpec(kind="class", dim=320, num_classes=10))
    torch.testing.assert_close(ours[CLASS_TABLE], official[CLASS_TABLE][:10])
    with pytest.raises(ValueError, match="1000 rows for 2000 classes"):
        generator_from_official(official, ConditionSpec(kind="class", dim=320, num_classes=2000))
