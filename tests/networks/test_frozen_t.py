"""Which parts of a StyleGAN-T generator are frozen while higher blocks train."""

import pytest

from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.frozen_t import freeze, frozen_names
from sgxl_t.networks.generators.registry import build_generator


@pytest.fixture
def generator():
    return build_generator("sgt-tiny-32", ConditionSpec(kind="text", dim=8))


def test_lower_blocks_and_mapping_are_frozen_and_their_image_outputs_train(generator):
    freeze(generator, frozen_names(generator, 32, train_lowres_torgb=True))
    training = {name for name, parameter in generator.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("synthesis.b32.convs1") for name in training)
    assert {name for name in training if not name.startswith("synthesis.b32.")} == {
        name
        for name, _ in generator.named_parameters()
        if ".torgb." in name and not name.startswith("synthesis.b32.")
    }


def test_image_outputs_can_be_frozen_too(generator):
    frozen = frozen_names(generator, 16, train_lowres_torgb=False)
    assert {name.split(".")[0] for name in frozen} == {"mapping", "synthesis"}
    assert {name.split(".")[1] for name in frozen if name.startswith("synthesis")} == {"b8"}
    assert "synthesis.b8.torgb.weight" in frozen


@pytest.mark.parametrize("side", [8, 48, 64])
def test_a_side_without_a_block_is_refused(generator, side):
    with pytest.raises(ValueError, match=f"freeze_below={side} is no block above 8 px"):
        frozen_names(generator, side, train_lowres_torgb=True)


def test_other_families_have_no_blocks():
    xl = build_generator("sgxl-tiny-16", ConditionSpec(kind="none"))
    with pytest.raises(ValueError, match="stylegan_t"):
        frozen_names(xl, 16, train_lowres_torgb=True)
