"""The memory that `--dry-run` tells, beside what a real trainer takes.

Protocol: the real `Trainer` makes one whole update, so that optimiser states and tables of filters are there.
Then every phase is run alone under torch's profiler, which sees each allocation of the CPU's allocator,
whoever asks for it; the peak of the running sum, less where it began, is what the phase takes beside all that
stays: gradients, maps, working memory. What stays is counted from the trainer's own tensors. The estimate
must lie within 15 % of what is measured, for every phase and for a whole update. Launch modes of two
processes are measured from the first tensor on, in processes of their own (tests/step_memory.py).
"""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launches import torchrun

from sgxl_t.model_io.named_model import packaged_model
from sgxl_t.ops.device_kind import is_cpu
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.memory import launch_modes as memory_modes
from sgxl_t.training.memory.dry_run import Launch, planned, report
from sgxl_t.training.memory.estimate import estimate_step
from sgxl_t.training.memory.launch_modes import LAUNCH_FILES, NAMES, share
from sgxl_t.training.memory.shapes import Shapes, bytes_of, tensors_of
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.train import main

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.15
COMMON = {
    "batch.images": 8,
    "log.track_images": 0,
    "log.tensorboard": "false",
    "log.progress": "false",
}
CLASS = {
    **COMMON,
    "cond": "class",
    "data.source": "digits",
    "generator.family": "stylegan3",
    "generator.img_resolution": 16,
    "generator.stylegan3.w_dim": 256,
    "generator.stylegan3.num_layers": 5,
    "generator.stylegan3.margin_size": 4,
    "generator.stylegan3.channel_base": 8192,
    "generator.stylegan3.channel_max": 256,
    "discriminator.features": '["random:tf_efficientnet_lite0"]',
    "discriminator.projected.input_size": 128,
    "conditioning.class_features": "random:small_cnn",
    "objective.share_fakes": "false",
    "objective.pl_weight": 2,
    "objective.pl_start_kimg": 0,
}
TEXT = {
    **COMMON,
    "cond": "text",
    "data.source": "emoji-scenes:4x4",
    "generator.family": "stylegan_t",
    "generator.img_resolution": 64,
    "generator.stylegan_t.channel_base": 8192,
    "generator.stylegan_t.channel_max": 256,
    "discriminator.family": "dino",
    "discriminator.features": '["random:vit_tiny_patch16_224"]',
    "objective.clip_weight": 0.2,
    "conditioning.train_text_encoder": "true",
}
TOLD = {
    **TEXT,
    "conditioning.train_text_encoder": "false",
    "generator.stylegan_t.instances": 40,
    "objective.following_weight": 1,
}
RUNS = {
    "class in one round": (CLASS, 1, "no"),
    "class in two rounds with shared fakes": ({**CLASS, "objective.share_fakes": "true"}, 2, "no"),
    "text in two rounds": (TEXT, 2, "no"),
    "text that is told of pictures": (TOLD, 1, "no"),
    "text in one round of bfloat16": (TEXT, 1, "bf16"),
    "class in one round of bfloat16": (CLASS, 1, "bf16"),
    "text in one round, frozen networks in bfloat16": ({**TEXT, "discriminator.precision": "bf16"}, 1, "no"),
}


def configuration(folder, settings, **more):
    values = {**settings, "run_dir": folder, **more}
    return parse_config([part for name, value in values.items() for part in (f"--{name}", str(value))])


def alone(config):
    """A run without stages as estimates take it."""
    (run,) = plan_run(config).stages
    return planned(run)


def allocated(work):
    """Bytes above where it began, at the peak of `work()`."""
    gc.collect()
    with torch.profiler.profile(profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measure(trainer, phases):
    """Peak of an update of these phases; its pictures are there before it begins."""
    trainer.objective.phases = lambda *_: phases
    try:
        rounds = trainer.next_batches()
        return allocated(lambda: trainer.update(rounds))
    finally:
        del trainer.objective.phases


LONG = (
    "class in one round",
    "class in one round of bfloat16",
    "text in one round, frozen networks in bfloat16",
)
"""Runs that are built for half a minute and measure what others do in another precision or in two rounds."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in RUNS],
    ids=lambda name: name.replace(" ", "-"),
)
def measured(request, tmp_path_factory, tiny_features):
    """The estimate, the trainer after a whole update, its rounds and its configuration."""
    settings, rounds, precision = RUNS[request.param]
    clip = {"conditioning.text_encoder": f"local:{tiny_features / 'clip'}"}
    config = configuration(
        tmp_path_factory.mktemp("run"), {**settings, **clip, "batch.per_device": 8 // rounds}
    )
    estimate = estimate_step(alone(config), 8 // rounds, one_round=rounds == 1, precision=precision)
    trainer = build_trainer(config, Runtime(deterministic=False), config.folder())
    if precision == "bf16":
        trainer.runtime.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    trainer.data.open(trainer.state)
    trainer.update(trainer.next_batches())
    return estimate, trainer, rounds, config


def test_what_stays_is_counted_to_the_byte(measured):
    estimate, trainer, _, config = measured
    for name, role in trainer.state.networks.items():
        size, parameters = estimate.networks[name], list(role.raw.parameters())
        assert size.weights == bytes_of(parameters)
        assert size.trained == bytes_of(role.trainable)
        assert size.buffers == bytes_of(role.raw.buffers())
        moments = [
            state[moment] for state in role.optimizer.state.values() for moment in ("exp_avg", "exp_avg_sq")
        ]
        assert 2 * size.trained == bytes_of(moments)
    averages = [
        trainer.state.ema.network,
        *([trainer.state.condition_ema.network] if trainer.state.condition_ema else []),
    ]
    assert estimate.ema == bytes_of(t for network in averages for t in tensors_of(network))
    frozen = tensors_of(trainer.state.features)
    if config.cond == "text":
        frozen += tensors_of(trainer.state.condition.original)
    else:
        frozen.append(trainer.state.condition.table)
    assert sum(estimate.frozen.values()) == bytes_of(frozen)


def test_guiding_networks_compute_as_the_discriminators_do(measured):
    _, trainer, _, config = measured
    guides = trainer.objective.guidance
    asked = config.discriminator.precision
    assert {guide.precision for guide in (guides.classifier, guides.clip) if guide is not None} <= {asked}
    assert (guides.clip is not None) == (config.cond == "text")


def test_an_estimate_of_a_gpu_takes_no_detours_of_a_cpu():
    for gpu in (False, True):
        with Shapes(gpu=gpu).running():
            assert is_cpu(torch.device("cpu")) is not gpu


def test_each_phase_takes_what_was_estimated(measured):
    estimate, trainer, rounds, config = measured
    assert {phase.name for phase in estimate.phases} == set(trainer.objective.phases(0, 0))
    shared = config.objective.share_fakes
    for phase in estimate.phases:
        if shared and phase.name == "d":
            continue  # it cannot be run alone; the whole update below has it
        names = ("d",) if phase.name == "d" else tuple(name for name in estimate.networks if name != "d")
        gradients = sum(estimate.networks[name].trained for name in names)
        expected = gradients + phase.beside(rounds)
        taken = measure(trainer, (phase.name,))
        assert expected == pytest.approx(taken, rel=TOLERANCE), phase.name


def test_a_whole_update_takes_what_was_estimated(measured):
    estimate, trainer, rounds, _ = measured
    names = tuple(phase.name for phase in estimate.phases)
    part = share(estimate, "single", 1, rounds)
    standing = part.weights + part.frozen + part.ema + part.optimizer
    batch = rounds * estimate.batch
    peak = measure(trainer, names)
    assert part.total - standing - batch == pytest.approx(peak, rel=TOLERANCE)
    assert part.total == pytest.approx(standing + batch + peak, rel=TOLERANCE)


PROCESSES = {"ddp": "ddp", "zero1": "zero1", "zero2": "zero2", "zero3": "zero3", "fsdp": "fsdp2"}
"""Modes of tests/launches.py by the names of the estimate."""
SMALL_BUCKET = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("mode", PROCESSES)
def test_a_process_of_two_takes_what_was_estimated(mode, tmp_path, tiny_features, monkeypatch):
    values = {
        **TEXT,
        "conditioning.text_encoder": f"local:{tiny_features / 'clip'}",
        "conditioning.train_text_encoder": "false",
        "batch.per_device": 2,
        "run_dir": tmp_path / "run",
    }
    arguments = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    config = parse_config(arguments)
    if mode.startswith("zero"):
        # DeepSpeed's own buckets are far larger than these networks: they would hide what is measured here.
        monkeypatch.setattr(memory_modes, "REDUCE_BUCKET", SMALL_BUCKET)
        settings = {"stage": int(mode[-1]), "reduce_bucket_size": SMALL_BUCKET}
        file = tmp_path / "deepspeed.json"
        file.write_text(json.dumps({"zero_optimization": settings}))
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    target = tmp_path / "peak"
    script = ROOT / "tests" / "step_memory.py"
    answer = torchrun([str(target), *arguments], mode=mode, script=script, timeout=900)
    assert answer.returncode == 0, answer.stderr
    part = share(estimate_step(alone(config), 2), PROCESSES[mode], 2, config.rounds(2))
    assert part.total == pytest.approx(int(target.read_text()), rel=TOLERANCE)


@pytest.mark.slow
def test_the_largest_configuration_is_estimated_within_small_memory(tmp_path):
    arguments = ["--config", "configs/text/full.yaml", "--stage", "primary", "--dry-run"]
    # VmHWM counts from the start of this program; ru_maxrss would also count the process that started it.
    code = (
        "import sys; from sgxl_t.training.train import main; main(sys.argv[1:]); "
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--run-dir", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert answer.returncode == 0, answer.stderr
    *lines, kibibytes = answer.stdout.splitlines()
    assert int(kibibytes) < 1.5 * 2**20
    assert not (tmp_path / "run").exists()
    for name in NAMES.values():
        assert sum(line.startswith(f"{name}  ") for line in lines) == 1
    assert any(line.startswith("stage primary: stylegan_t of 975.6 M parameters") for line in lines)


def test_every_stage_has_a_table_unless_one_is_named():
    file = str(ROOT / "configs" / "class" / "imagenet.yaml")
    stages = plan_run(parse_config(["--config", file])).wanted()
    assert [stage.label for stage in stages] == ["16", "32", "64", "128", "256", "512", "1024"]
    assert [planned(stage).below.img_resolution for stage in stages[1:]] == [16, 32, 64, 128, 256, 512]
    (only,) = plan_run(parse_config(["--config", file, "--stage", "64"])).wanted()
    assert only.label == "64"


@pytest.mark.slow
def test_the_estimate_of_a_thousand_million_weights_is_the_same_each_time():
    config = parse_config(["--config", str(ROOT / "configs" / "text" / "full.yaml"), "--stages", "[]"])
    first, second = (estimate_step(alone(config), 8, precision="bf16") for _ in range(2))
    assert first == second
    assert 0.9e9 < first.parameters < 1.1e9
    single, ddp, *zero, offload = (
        share(first, mode, 8, 32) for mode in ("single", "ddp", "zero1", "zero2", "zero2_offload")
    )
    assert single.total > 16 * first.parameters, "weights, gradients, and two moments of four bytes"
    assert ddp.total - single.total == ddp.transit
    assert offload.total < zero[1].total < zero[0].total < single.total


@pytest.mark.slow
def test_second_order_penalties_are_refused_with_zero_3_alone(tmp_path):
    config = configuration(tmp_path, {"cond": "class", "objective.pl_weight": 2})
    text = report(plan_run(config).wanted(), Launch(2, "no", launched=True))
    refused = [line for line in text.splitlines() if "refused" in line]
    assert len(refused) == 2
    assert all(line.startswith("ZeRO-3") and "pl_weight=2" in line for line in refused)


def test_launch_files_that_are_named_exist():
    names = {name for files in LAUNCH_FILES.values() for name in files.values()}
    assert names <= {path.name for path in (ROOT / "configs" / "launch").iterdir()}


def test_a_mistake_ends_with_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(
            ["--dry-run", "--batch.images", "7", "--batch.per_device", "8", "--run-dir", str(tmp_path / "x")]
        )
    assert caught.value.code == 2
    assert "does not split" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_data_that_is_not_here_is_said_to_be_guessed(tmp_path, capsys):
    settings = {"cond": "class", "data.source": tmp_path / "missing.zip"}
    text = report(
        plan_run(configuration(tmp_path / "run", settings)).wanted(), Launch(2, "no", launched=True)
    )
    assert "its classes are taken to be 1000" in text


def test_a_generator_with_a_word_tower_of_its_own_may_be_told_of_pictures(tmp_path, tiny_features):
    clip, tower = tiny_features / "clip", packaged_model("demo_text") / "text_encoder"
    encoders = {
        "conditioning.text_encoder": f"local:{clip}",
        "conditioning.own_text_encoder": f"local:{tower}",
    }
    config = configuration(tmp_path / "run", {**TOLD, **encoders})
    trainer = build_trainer(config, Runtime(deterministic=False), config.folder())
    estimate = estimate_step(alone(config), 8, one_round=True, precision="no")
    assert estimate.networks["g"].weights == bytes_of(list(trainer.state.g.raw.parameters()))


def test_the_flag_trains_nothing(tmp_path, capsys):
    main(["--cond", "class", "--dry-run", "--run-dir", str(tmp_path / "run")])
    assert "one process" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
