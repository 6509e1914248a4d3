"""Batches by what fits, halved when memory runs out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.sampling import batches
from sgxl_t.sampling.batches import BatchSize, in_batches
from sgxl_t.sampling.fast import free_memory
from sgxl_t.sampling.pipeline import Pipeline

CPU = torch.device("cpu")


@pytest.fixture
def fitting():
    return BatchSize(tiny_model("none")[0], CPU)


@pytest.mark.parametrize(("pictures", "expected"), [(0, 1), (1, 1), (3, 3), (3.9, 3), (500, 16), (None, 16)])
def test_the_batch_is_what_fits_into_half_of_the_free_memory(fitting, monkeypatch, pictures, expected):
    free = None if pictures is None else int(2 * pictures * fitting._bytes)
    monkeypatch.setattr(batches, "free_bytes", lambda device: free)
    assert fitting.now() == expected


def test_a_pipeline_makes_the_same_pictures_in_any_memory(monkeypatch):
    pipe, sizes = Pipeline(*tiny_model("class")), []
    keep = pipe._drawing.pixels
    monkeypatch.setattr(
        pipe._drawing, "pixels", lambda specs, truncation: sizes.append(len(specs)) or keep(specs, truncation)
    )
    roomy = [np.asarray(image).astype(int) for image in pipe("dog", seeds=range(5)).images]
    monkeypatch.setattr(batches, "free_bytes", lambda device: 4 * pipe._drawing.fitting._bytes)
    tight = [np.asarray(image).astype(int) for image in pipe("dog", seeds=range(5)).images]
    assert sizes == [5, 2, 2, 1]
    assert np.abs(np.stack(tight) - np.stack(roomy)).max() <= 1


ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_batch_and_loses_nothing(fitting, error):
    tried = []

    def make(items):
        tried.append(len(items))
        if len(items) > 3 and sum(tried) > 8:
            raise error
        return [item * 10 for item in items]

    made = list(in_batches(iter(range(20)), make, fitting, 8))
    assert made == [(item, item * 10) for item in range(20)]
    assert tried == [8, 8, 4, 2, 2, 2, 2, 2, 2]


def test_one_picture_too_large_is_said_in_a_sentence(fitting):
    def make(items):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(ValueError, match="memory of cpu does not hold what one image needs"):
        list(in_batches(iter(range(4)), make, fitting))


def test_other_errors_pass(fitting):
    def make(items):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(in_batches(iter(range(4)), make, fitting))


def test_a_gpu_is_measured_with_one_picture(monkeypatch):
    fitting, made = BatchSize(tiny_model("none")[0], torch.device("cuda")), []
    for name, value in {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 100,
        "memory_reserved": 700,
        "max_memory_allocated": 350,
        "mem_get_info": (1900, 9000),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    sizes = in_batches(iter(range(12)), lambda items: made.append(len(items)) or list(items), fitting)
    assert [item for item, _ in sizes] == list(range(12))
    assert made == [1, 5, 5, 1]  # half of 1900 + 600 bytes, 250 each


def test_the_container_counts_beside_the_machine(tmp_path, monkeypatch):
    for name, text in {"max": "5000", "current": "3000", "stat": "anon 1\ninactive_file 500\n"}.items():
        (tmp_path / name).write_text(text)
    files = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(free_memory, "_CGROUPS", ((str(tmp_path / "none"),) * 3, files))
    assert free_memory.free_bytes(CPU) == 2500
    (tmp_path / "max").write_text("max")
    if Path("/proc/meminfo").exists():
        assert free_memory.free_bytes(CPU) > 10**6


def test_the_estimate_covers_what_was_measured_in_the_papers_size():
    with torch.device("meta"):
        names = ("sgxl-imagenet-16", "sgxl-imagenet-32", "sgt-lite-64")
        small, large, lite = (build_generator(name, ConditionSpec(kind="none")) for name in names)
    assert 57 * 2**20 < free_memory.image_bytes(small) < 100 * 2**20
    assert 79 * 2**20 < free_memory.image_bytes(large) < 250 * 2**20
    assert free_memory.image_bytes(lite) == 12 * 4 * 512 * 64**2
