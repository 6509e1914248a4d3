import json

import pytest
import torch
from test_main import call
from torch.utils.flop_counter import FlopCounterMode

from sgxl_t.bench import job
from sgxl_t.bench.cases.workloads import conv_gflop
from sgxl_t.bench.machine import Product
from sgxl_t.bench.stages import stages
from sgxl_t.bench.stages.layer_parts import LayerParts
from sgxl_t.bench.stages.schedule import cost, stages_of
from sgxl_t.bench.variants import variant_backend
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators import synthesis_xl
from sgxl_t.networks.generators.registry import build_generator

CPU = torch.device("cpu")
PLAIN = variant_backend("default", always=False)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Turns of no length beside a product of no size."""
    a = torch.ones(32, 32)
    monkeypatch.setattr(job, "SHORTEST_QUICK", 0.0)
    monkeypatch.setattr(stages, "matrix_product", lambda *_, **__: Product(lambda: a @ a, 1e-3))


def rows_of(capsys, tmp_path, *options):
    file = tmp_path / "stages.json"
    asked = ("--quick", "--threads", "1", "--stages", "sgxl-tiny-32", "--json", str(file))
    code, out, err = call(capsys, "bench", *asked, *options)
    assert code == 0, err
    return json.loads(file.read_text()), out


def test_stages_sum_their_layers(capsys, tmp_path):
    rows, out = rows_of(capsys, tmp_path, "--dtype", "float32", "--variant", "default")
    layers, grown, networks = (
        [row for row in rows if row["kind"] == kind] for kind in ("layer", "stage", "network")
    )
    assert [row["resolution"] for row in grown] == [row["resolution"] for row in networks] == [16, 32]
    assert [row["layers"] for row in grown] == [5, 5]
    assert [row["layers"] for row in networks] == [5, 7]  # of the stem two critical ones and ToRGB go
    assert [row["layer"] for row in layers][:2] == ["L0_24_32", "L3_16_32"]
    by_name = {row["layer"]: row for row in layers}
    stem = [by_name["L0_24_32"]] * 3 + [by_name["L3_16_32"], by_name["L4_16_3"]]
    for column in ("ms", "conv_ms", "filter_ms", "conv_gflop"):
        assert networks[0][column] == pytest.approx(sum(row[column] for row in stem), rel=5e-3)
    for row in rows:
        assert row["gflop"] == pytest.approx(row["conv_gflop"] + row["filter_gflop"], rel=1e-3)
        assert row["gflop_per_s"] == pytest.approx(1000 * row["gflop"] / row["ms"], rel=1e-2)
        assert row["lowest_share"] > 0
        assert row["repeats"] == 7
    spatial = [row["conv_share"] for row in stem[:4]]
    assert networks[0]["lowest_share"] == min(spatial)
    assert "medians of 7 turns" in out.splitlines()[-2]
    assert "CPU time of the process; 1 thread" in out


def test_forms_and_dtypes_have_rows_of_their_own(capsys, tmp_path):
    rows, _ = rows_of(capsys, tmp_path, "--variant", "default", "--variant", "winograd", "--batch", "2")
    assert {row["batch"] for row in rows} == {2}
    kinds = [(row["dtype"], row["variant"]) for row in rows if row["kind"] == "network"]
    assert kinds == 2 * [("float32", "default")] + 2 * [("float32", "winograd")] + 2 * [
        ("bfloat16", "default")
    ]


def test_arithmetic_of_the_layers_is_that_of_the_network():
    generator = build_generator("sgxl-tiny-32", ConditionSpec(), seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(torch.zeros(3, generator.z_dim))
    counts = counter.get_flop_counts()["Global"]
    counted = sum(number for name, number in counts.items() if "convolution" in str(name))
    last = stages_of("sgxl-tiny-32")[-1]
    assert sum(conv_gflop(spec, 3) for spec in last.kept + last.added) == pytest.approx(counted / 1e9)


def test_stages_are_the_networks_on_the_way():
    chain = stages_of("sgxl-imagenet-256")
    assert [stage.resolution for stage in chain] == [16, 32, 64, 128, 256]
    assert [len(stage.kept + stage.added) for stage in chain] == [11, 16, 21, 26, 31]
    work = [sum(conv_gflop(spec, 1) for spec in stage.kept + stage.added) for stage in chain]
    assert work == pytest.approx([273, 548, 1246, 2266, 3187], rel=2e-3)
    stem = chain[0].added
    assert len({cost(spec) for spec in stem}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_are_the_calls_of_the_layer(dtype):
    spec = stages_of("sgxl-tiny-16")[0].added[0]
    own = synthesis_xl.modulated_conv_sg3, synthesis_xl.SynthesisLayer.lrelu
    parts = LayerParts(spec, 64, 2, dtype, "cpu")
    assert (synthesis_xl.modulated_conv_sg3, synthesis_xl.SynthesisLayer.lrelu) == own
    whole, filtered = parts.run("whole", PLAIN), parts.run("filter", PLAIN)
    assert torch.equal(whole, filtered)
    assert parts.run("conv", PLAIN).shape == (2, 32, spec.in_size + 2, spec.in_size + 2)
    # Narrow layers keep the direct convolution.
    assert torch.equal(whole, parts.run("whole", variant_backend("winograd", always=False)))
    assert parts.x.dtype == whole.dtype


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stages", "sgt-tiny-32"), "no alias-free layers"),
        (("--stages", "sgxl-imagenet-2560"), "did you mean one of sgxl-imagenet-256"),
        (("--stages", "sgxl-tiny-16", "--only", "sgxl-*"), "--only means nothing to --stages"),
        (("--stages", "sgxl-tiny-16", "--mode", "forward_backward"), "means nothing to --stages"),
        (("--stages", "sgxl-tiny-16", "--repeats", "3"), "too few"),
    ],
)
def test_mistakes_are_one_sentence(capsys, options, words):
    code, out, err = call(capsys, "bench", *options)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]
