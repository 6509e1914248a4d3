"""Sampling mode: the same pictures, values made once, refusals, compiled and captured code."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sgxl_t.ops import backend
from sgxl_t.ops.conv import modulated_conv
from sgxl_t.sampling import drawing
from sgxl_t.sampling.drawing import Drawing
from sgxl_t.sampling.fast import optimize
from sgxl_t.sampling.fast.optimize import FastSynthesis, Optimized
from sgxl_t.sampling.pipeline import Pipeline

NAMES = ("sgt-tiny-16", "sgxl-tiny-16")
REQUESTS = {"class": ["dog", "fox"], "text": ["a red fox", "a blue car"], "none": None}


def pixels(pictures):
    return np.stack([np.asarray(image) for image in pictures.images]).astype(int)


def maps(pipe, monkeypatch, count=2):
    """What the synthesis gives before it becomes bytes."""
    caught = []
    keep = drawing.to_uint8
    monkeypatch.setattr(drawing, "to_uint8", lambda x: caught.append(x.clone()) or keep(x))
    ws = torch.randn(count, pipe.generator.num_ws, pipe.generator.w_dim, generator=torch.Generator())
    pipe._drawing.of_styles(ws, None)
    monkeypatch.setattr(drawing, "to_uint8", keep)
    return torch.cat(caught)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", REQUESTS)
def test_optimised_pictures_are_those_of_the_plain_pipeline(kind, name, monkeypatch):
    pipe = Pipeline(*tiny_model(kind, name))
    plain, exact = pixels(pipe(REQUESTS[kind], seeds=range(3), psi=0.7)), maps(pipe, monkeypatch)
    done = pipe.optimize()
    assert done.cached > 0
    assert done.batch_size is None
    assert str(done).startswith(f"optimised: {done.cached} values of weights cached (")
    assert np.abs(pixels(pipe(REQUESTS[kind], seeds=range(3), psi=0.7)) - plain).max() <= 1
    assert (maps(pipe, monkeypatch) - exact).abs().max() <= 1e-5 * exact.abs().max()
    pipe.restore()
    assert (pixels(pipe(REQUESTS[kind], seeds=range(3), psi=0.7)) == plain).all()


@pytest.mark.parametrize("name", NAMES)
def test_values_of_weights_are_made_once(name, monkeypatch):
    made = []
    keep = modulated_conv._energies._make
    monkeypatch.setattr(modulated_conv._energies, "_make", lambda w: made.append(1) or keep(w))
    pipe = Pipeline(*tiny_model("none", name))
    done = pipe.optimize()
    assert len(made) == done.cached
    pipe(seeds=range(3), batch_size=2)
    assert len(made) == done.cached


@pytest.mark.parametrize("name", NAMES)
def test_weights_may_change_afterwards(name, tmp_path):
    generator, condition = tiny_model("class", name)
    pipe = Pipeline(generator, condition)
    pipe.optimize()
    before = pixels(pipe("dog"))
    changed = {
        key: value * 1.5 if key.endswith("weight") else value for key, value in generator.state_dict().items()
    }
    generator.load_state_dict(changed)
    fresh, _ = tiny_model("class", name)
    fresh.load_state_dict(changed)
    after = pixels(pipe("dog"))
    assert np.abs(after - pixels(Pipeline(fresh, condition)("dog"))).max() <= 1
    assert (after != before).any()


@pytest.mark.parametrize("kind", ["text", "class"])
def test_saving_writes_the_weights_as_they_were(kind, tmp_path):
    pipe = Pipeline(*tiny_model(kind, "sgxl-tiny-16"))
    plain = (pipe.save_pretrained(tmp_path / "plain") / "generator.safetensors").read_bytes()
    pipe.optimize()
    pipe(REQUESTS[kind])
    assert (pipe.save_pretrained(tmp_path / "fast") / "generator.safetensors").read_bytes() == plain


def test_forms_hold_inside_the_pipeline_alone(monkeypatch):
    seen = []
    keep = Drawing.synthesize
    monkeypatch.setattr(
        Drawing, "synthesize", lambda self, *given: seen.append(backend.current()) or keep(self, *given)
    )
    pipe = Pipeline(*tiny_model("none", "sgxl-tiny-16"))
    pipe()
    done = pipe.optimize(conv="winograd")
    pipe()
    assert [form.conv for form in seen] == ["direct", "winograd", "winograd"]
    assert backend.current().conv == "direct"
    assert "Winograd's convolutions where they pay" in str(done)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"conv": "fast"}, "conv='fast' is no known backend: use one of direct, winograd"),
        ({"filter": "fir"}, "filter='fir' is no known backend"),
        (
            {"cuda_graphs": True},
            "CUDA graphs need an NVIDIA GPU and this pipeline runs on cpu: leave",
        ),
        (
            {"filter": "triton"},
            "filter=triton needs a GPU and Triton, not cpu: use compiled",
        ),
        ({"compile": True, "conv": "winograd"}, "compile takes the direct convolution and not conv=winograd"),
        ({"batch_size": 4}, "batch_size=4 is for what is compiled or captured: leave it out"),
        ({"compile": True, "batch_size": -1}, "batch_size=-1 is too small: use 1 or more"),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(wrong, sentence):
    pipe = Pipeline(*tiny_model("none"), device="cpu")
    with pytest.raises(ValueError, match=sentence):
        pipe.optimize(**wrong)
    assert pipe._drawing.fast is None


def test_winograd_is_refused_where_it_gains_nothing():
    pipe = Pipeline(*tiny_model("none"), device="cpu", precision="bf16")
    with pytest.raises(ValueError, match="conv=winograd gains nothing in bf16 on cpu"):
        pipe.optimize(conv="winograd")


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    from sgxl_t.ops.filtered_lrelu import compiled as filtered_lrelu_compiled

    monkeypatch.setattr(filtered_lrelu_compiled, "available", lambda device: False)
    with pytest.raises(ValueError, match="no working compiler for cpu: install a C\\+\\+ compiler"):
        Pipeline(*tiny_model("none"), device="cpu").optimize(filter="compiled")


class Replayed:
    """In place of a CUDA graph: runs the call once and again at every replay."""

    captured = 0

    def __init__(self, run):
        Replayed.captured += 1
        self.run = run
        run()

    def __call__(self):
        with torch.inference_mode():
            return self.run()


@pytest.fixture
def captured(monkeypatch):
    """A text model in sampling mode that thinks it captures."""
    monkeypatch.setattr(optimize, "CapturedCall", Replayed)
    Replayed.captured = 0
    pipe = Pipeline(*tiny_model("text"))
    plain = pixels(pipe("a red fox", seeds=range(5)))
    choice = Optimized(cuda_graphs=True, batch_size=2)
    pipe._drawing.fast = FastSynthesis(pipe.generator, pipe._drawing.synthesize, choice)
    return pipe, plain


def test_graphs_replay_with_new_styles_in_batches_of_one_size(captured):
    pipe, plain = captured
    assert np.abs(pixels(pipe("a red fox", seeds=range(5))) - plain).max() <= 1
    assert np.abs(pixels(pipe("a red fox", seeds=range(5), batch_size=5)) - plain).max() <= 1
    assert np.abs(pixels(pipe("a red fox", seed=3)) - plain[3:4]).max() <= 1
    assert Replayed.captured == 1


def test_graphs_are_captured_again_when_weights_change(captured):
    pipe, plain = captured
    pipe("a red fox")
    with torch.no_grad():
        pipe.generator.synthesis.blocks()[-1].torgb.bias.add_(1)
    assert np.abs(pixels(pipe("a red fox")) - plain[:1]).max() > 1
    assert Replayed.captured == 2


@pytest.mark.slow
@pytest.mark.parametrize("choice", [{"filter": "compiled"}, {"compile": True, "batch_size": 2}])
def test_compiled_pictures_are_the_same_and_the_seconds_are_told(choice):
    pipe = Pipeline(*tiny_model("class", "sgxl-tiny-16"))
    plain, told = pixels(pipe("dog", seeds=range(3))), []
    done = pipe.optimize(**choice, progress=told.append)
    assert told == ["compiling, which can take minutes ..."]
    assert done.seconds > 0
    assert str(done).endswith(f"; compiled in {done.seconds:.1f} s")
    assert np.abs(pixels(pipe("dog", seeds=range(3))) - plain).max() <= 1
    with torch.no_grad():
        pipe.generator.synthesis.layers()[-1].bias.add_(1)
    assert np.abs(pixels(pipe("dog", seeds=range(3))) - plain).max() > 1
