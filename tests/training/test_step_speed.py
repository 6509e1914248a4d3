"""An update waits for no number of the device, and its pictures are there when it begins."""

import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_run
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import sgxl_t
from sgxl_t.conditioning import ClassCondition
from sgxl_t.datasets.base import Batch
from sgxl_t.datasets.loading import workers
from sgxl_t.datasets.loading.loader import batches
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.open import open_source
from sgxl_t.ops.images import from_uint8
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop import data
from sgxl_t.training.loop.device_batch import DeviceBatches
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.parallel.runtime import Runtime

PACKAGE = Path(sgxl_t.__file__).parent
EVERYTHING = {
    "batch__per_device": 4,
    "objective__pl_weight": 2,
    "objective__pl_start_kimg": 0,
    "objective__blur_init_sigma": 2,
    "objective__blur_fade_kimg": 1,
}
RUNS = {
    "class": {"cond": "class", "generator": "stylegan3", "objective__cls_weight": 0.5, **EVERYTHING},
    "text, own tower": {
        "cond": "text",
        "discriminator": "dino",
        "objective__clip_weight": 0.2,
        "objective__mismatch_weight": 0.5,
        "conditioning__train_text_encoder": "true",
        **EVERYTHING,
    },
    "text, tokens, pairs": {
        "cond": "text",
        "objective__loss": "relativistic",
        "objective__order": "g_first",
        "objective__share_fakes": "true",
        "objective__clip_weight": 0.2,
        "generator__stylegan_t__attention_resolutions": "[8]",
        "compute__checkpoint_from": 8,
    },
    "class, penalty": {"cond": "class", "generator": "stylegan3", "objective__gradient_penalty": 1},
}
ON_A_CPU_ALONE = {
    ("ops/filtered_lrelu/dispatch.py", "_reaches_clamp"): "asks how large a map is, of no other device",
    ("ops/conv/frozen.py", "_unchanged"): "compares weights, kept on no other device",
}
"""Read-backs that lie behind a question for the device's type."""

_aten = torch.ops.aten
READ_BACKS = {
    _aten._local_scalar_dense.default,
    _aten.is_nonzero.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten.equal.default,
    _aten._unique2.default,
}
READERS = {"cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__index__"}


def place():
    """File and function of the package that this is called for, innermost first."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(PACKAGE):
            return str(file.relative_to(PACKAGE)), frame.name
    return "elsewhere", ""


class ReadBacks(TorchDispatchMode):
    """Counts operations whose result, or its size, depends on numbers that a device holds."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        chosen = func is _aten.index.Tensor and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if func in READ_BACKS or chosen:
            self.found[place()] += 1
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """Counts calls that a host waits in: those that read numbers, and copies to a device that say nothing."""

    def __init__(self):
        super().__init__()
        self.read, self.copied = Counter(), Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in READERS:
            self.read[place()] += 1
        to_device = any(isinstance(value, torch.device | str) for value in (*args[1:], *kwargs.values()))
        if name == "to" and to_device and not kwargs.get("non_blocking"):
            self.copied[place()] += 1
        return func(*args, **kwargs)


def trainer_of(folder, features, settings):
    config = parse_config(tiny_run(folder, features, **settings))
    trainer = build_trainer(config, Runtime(deterministic=False), folder)
    trainer.data.open(trainer.state)
    trainer.update(trainer.next_batches())  # makes what is made once
    return trainer


@pytest.mark.parametrize("name", RUNS)
def test_an_update_reads_nothing_back_from_the_device(name, tmp_path, tiny_features):
    trainer = trainer_of(tmp_path, tiny_features, RUNS[name])
    for _ in range(2):
        rounds = trainer.next_batches()
        with ReadBacks() as operations, Waits() as calls:
            trainer.update(rounds)
        for found in (operations.found, calls.read):
            assert {key: count for key, count in found.items() if key not in ON_A_CPU_ALONE} == {}
        assert not [key for key in calls.copied if key[0].startswith("training/")]
    assert trainer.state.iteration == 3


def test_a_read_back_would_be_seen():
    x = torch.arange(3.0)
    with ReadBacks() as operations, Waits() as calls:
        assert bool(x.sum() > 0)
        x[x > 1].cpu().to("cpu")
    assert operations.found.total() == 2
    assert calls.read.total() == 2
    assert calls.copied.total() == 1


# Pictures ------------------------------------------------------------------------------------------------


def test_pictures_come_as_bytes_and_become_floats_where_they_are_used(tmp_path, tiny_features):
    trainer = trainer_of(tmp_path, tiny_features, RUNS["class"])
    first, second = trainer.next_batches()
    assert first.images.dtype == torch.uint8
    assert first.images.shape == second.images.shape == (4, 3, 16, 16)
    torch.testing.assert_close(first.real, from_uint8(first.images), rtol=0, atol=0)
    assert (first.position, second.position) == (8, 12)


def test_without_a_gpu_pictures_are_handed_over_as_they_are():
    labels, pixels = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    device_batches = DeviceBatches(ClassCondition(["fox"]), torch.device("cpu"))
    with device_batches.beside():
        batch = device_batches.micro_batch(Batch(pixels, labels), 5)
    assert batch.images is pixels
    assert batch.position == 5
    assert batch.cond.c is batch.cond.target is batch.cond.labels is labels
    assert device_batches.encoded(batch) is batch
    batches = [batch]
    assert device_batches.hand_over(batches) is batches


def test_loader_processes_have_the_next_update_ready(tmp_path, tiny_features, monkeypatch):
    """While an update of eight rounds runs, its two processes load the eight of the next."""
    given = []
    monkeypatch.setattr(
        data,
        "batches",
        lambda source, options, **where: given.append(options.ahead) or batches(source, options, **where),
    )
    settings = {"cond": "class", "batch__per_device": 1}
    trainer = trainer_of(tmp_path, tiny_features, settings)
    assert given == [trainer.settings.rounds] == [8]
    assert workers.loader_options(2, 8)["prefetch_factor"] == 4
    assert workers.loader_options(3, 8)["prefetch_factor"] == 3
    assert workers.loader_options(4, 0)["prefetch_factor"] == 2
    monkeypatch.setattr(data, "AHEAD_BYTES", 5 * 3 * 16 * 16)
    trainer.data.open(trainer.state)
    assert given == [8, 5]


def test_batches_that_were_loaded_ahead_cost_no_time():
    loader = batches(
        open_source("digits", resolution=16), BatchOptions(batch_size=2, seed=0, num_workers=1, ahead=6)
    )
    try:
        next(loader)
        queue = loader._items._worker_result_queue
        deadline = time.monotonic() + 60
        while queue.qsize() < 6 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert queue.qsize() == 6
    finally:
        loader.close()


# The rest of an update -----------------------------------------------------------------------------------


def test_averages_take_over_every_buffer():
    network = torch.nn.BatchNorm1d(3)
    config = parse_config([]).ema
    average = Ema(network, config)
    network.running_mean.fill_(2)
    network.num_batches_tracked.fill_(5)
    average.update(network.parameters(), network.buffers(), 8, 0)
    assert average.network.running_mean.tolist() == [2, 2, 2]
    assert average.network.num_batches_tracked == 5
    plain = torch.nn.Linear(2, 2)
    Ema(plain, config).update(plain.parameters(), plain.buffers(), 8, 0)


def test_processes_hear_of_an_end_one_update_later(monkeypatch):
    runtime = Runtime(deterministic=False)
    assert [runtime.soon(flag, True) for flag in (False, True, False)] == [
        [False, True],
        [True, True],
        [False, True],
    ]
    runtime.world_size = 2
    elsewhere = iter([0.0, 1.0, 0.0, 0.0])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda number: number.add_(next(elsewhere)))
    assert [runtime.soon(flag) for flag in (False, False, True, False)] == [[False], [False], [True], [True]]
