"""The demonstration: pictures of the packaged models, then two models trained on the spot on a CPU, sampled,
judged, and shown on one page."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from sgxl_t.files.terminal import say
from sgxl_t.files.whole import write_whole

T = TypeVar("T")

CLASS_DATA, TEXT_DATA = "digits", "emoji-scenes:24x8"
SEEDS_PER_DIGIT = 144
PROMPTS = (
    "a red fox in snow",
    "a large penguin on a beach",
    "a small rocket at night",
    "a large cat on grass",
    "a small car in the city",
    "a large sailboat on water",
    "a small mushroom in the desert",
    "a large sunflower on grass",
)


@dataclass
class ResourceMonitor:
    """Minutes by stage, and the peak memory of this process and all it started, in GiB."""

    minutes: dict[str, float] = field(default_factory=dict)
    peak_gib: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.minutes[name] = (time.monotonic() - started) / 60

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Samples memory twice a second during the block."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _sample(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._stop.wait(0.5):
            used = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    used += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_gib = max(self.peak_gib, used / 2**30)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--class-kimg", type=float, help="Thousand images of the class run; default: its preset.")
@click.option("--text-kimg", type=float, help="Thousand images of the text run; default: its preset.")
def demo(out: Path, class_kimg: float | None, text_kimg: float | None) -> None:
    """Shows what the packaged models draw, then trains and measures two more; leaves OUT/class, OUT/text and
    OUT/report.html."""
    out.mkdir(parents=True, exist_ok=True)
    monitor = ResourceMonitor()
    started = time.monotonic()
    with monitor.memory():
        with monitor.stage("packaged"):
            pictures = in_child(packaged_pictures, out)
        for picture in pictures:
            say(f"drawn by a model of the package: {picture}")
        with monitor.stage("class"):
            train("class", out, class_kimg)
            scores: dict[str, Any] = {"class": in_child(class_scores, out)}
        scores["class"]["minutes"] = monitor.minutes["class"]
        say(f"digits: {out / 'class.png'}  {summary(scores['class'])}")
        with monitor.stage("text"):
            train("text", out, text_kimg)
            scores["text"] = in_child(text_scores, out)
        scores["text"]["minutes"] = monitor.minutes["text"]
        say(f"emoji scenes: {out / 'text.png'}  {summary(scores['text'])}")
    scores["total_minutes"] = (time.monotonic() - started) / 60
    scores["peak_memory_gib"] = monitor.peak_gib
    write_whole(out / "scores.json", json.dumps(scores, indent=1))
    page = in_child(report, out, scores)
    say(f"{scores['total_minutes']:.1f} minutes, {monitor.peak_gib:.1f} GiB at most. Open {page}")


def packaged_pictures(out: Path) -> list[Path]:
    """A sheet of each model that ships in the package: a row per prompt or class, a column per seed."""
    from sgxl_t.model_io.named_model import DEMO_CLASS_MODEL, DEMO_MODEL
    from sgxl_t.sampling.pipeline import Pipeline

    sheets = []
    for name in (DEMO_MODEL, DEMO_CLASS_MODEL):
        pipe = Pipeline.from_pretrained(name)
        names = pipe.condition.names
        conditions = list(PROMPTS) if pipe.condition.kind == "text" else list(range(len(names)))[:12]
        sheets.append(out / f"{name}.png")
        write_grid(pipe, conditions, sheets[-1])
    return sheets


def train(kind: str, out: Path, kimg: float | None) -> None:
    """Runs the preset of a condition as `accelerate launch scripts/train.py` does, one process per core.

    Two processes of one thread each use two cores better than one process of two threads.
    """
    processes = 2 if (os.cpu_count() or 1) >= 2 else 1
    arguments = ["--cond", kind, "--run-dir", str(out / "runs" / kind)]
    if kimg is not None:
        arguments += ["--schedule.kimg", str(kimg)]
    launch = ["--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no"]
    launch += ["--mixed_precision", in_child(precision), "--module"]
    if processes > 1:
        launch = ["--multi_gpu", *launch]  # accelerate's name for several processes; they run on the CPU here
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *launch,
        "sgxl_t.training.train",
        *arguments,
    ]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    subprocess.run(command, check=True, env={**os.environ, **threads})
    keep_model(out / "runs" / kind / "last", out / kind)


def in_child(work: Callable[..., T], *given: Any) -> T:
    """What `work` returns, from a process of its own: the libraries that it loads, half a GiB and more, are
    gone before training needs the memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def precision() -> str:
    """bf16 where the processor multiplies in it, which is about 1.5 times as fast; else float32."""
    from sgxl_t.networks.backbones.precision import cpu_gains_by_bf16

    return "bf16" if cpu_gains_by_bf16() else "no"


def keep_model(source: Path, target: Path) -> None:
    """Copies a model folder whole."""
    import shutil

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def class_scores(out: Path) -> dict[str, Any]:
    """Grid and figures of the class model."""
    import torch

    from sgxl_t.metrics.judges.judges import load_judge
    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(out / "class")
    # Digit after digit in turn: any leading part holds all classes equally often, as real test digits do.
    labels = [label for _ in range(SEEDS_PER_DIGIT) for label in range(10)]
    generated = pipe.pairs(labels, range(len(labels)), batch_size=64)
    images = to_tensor([one.image for one in generated])
    write_grid(pipe, list(range(10)), out / "class.png")
    report = load_judge(CLASS_DATA).report(images, torch.tensor(labels))
    return {
        **report,
        "accuracy": report["accuracy"]["all"],
        "accuracy_real": report["accuracy_real"]["all"],
        "psi": 1.0,
    }


def text_scores(out: Path) -> dict[str, Any]:
    """Grid and figures of the text model: test captions, and captions of pairs never seen in training."""
    from sgxl_t.metrics.judges.judges import load_judge
    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(out / "text")
    judge = load_judge(TEXT_DATA)
    images, requested, captions = answers(pipe, "test")
    report = judge.report(images, requested, captions)
    images, requested, _ = answers(pipe, "held_out")
    report["held_out"] = judge.accuracy(images, requested)
    write_grid(pipe, list(PROMPTS), out / "text.png")
    return {**report, "psi": 1.0}


def answers(pipe: Any, split: str) -> tuple[Any, Any, list[str]]:
    """One picture per caption of a split of emoji-scenes, with the attributes that each caption asks for."""
    import torch

    from sgxl_t.datasets.open import open_source

    source: Any = open_source(TEXT_DATA, resolution=pipe.generator.img_resolution, split=split)
    captions = [source[index].caption for index in range(len(source))]
    requested = torch.tensor([source.attributes(index) for index in range(len(source))])
    generated = pipe.pairs(captions, range(len(captions)), batch_size=64)
    return to_tensor([one.image for one in generated]), requested, captions


def to_tensor(images: list[Any]) -> Any:
    """RGB pictures as uint8 [N, 3, R, R]."""
    import numpy as np
    import torch

    return (
        torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()
    )


def report(out: Path, scores: dict[str, Any]) -> Path:
    """Writes OUT/report.html; returns its path."""
    from demo_report import write_demo_report

    return write_demo_report(out, scores)


def write_grid(pipe: Any, conditions: list[Any], path: Path) -> None:
    """Labelled grid: a row per condition, a column per seed."""
    from sgxl_t.sampling.output.grid import labelled_grid

    generated = pipe(conditions, seeds=range(8), batch_size=64)
    rows = list(dict.fromkeys(generated.conditions))
    labelled_grid(generated.images, rows, [f"seed {seed}" for seed in range(8)]).save(path)


def summary(scores: dict[str, Any]) -> str:
    """One line: accuracy, distance over its floor, minutes."""
    accuracy = scores["accuracy"]
    ratio = scores["frechet"] / scores["frechet_floor"]
    words = f"{accuracy:.3f}" if isinstance(accuracy, float) else f"{accuracy['all']:.3f}"
    held_out = f", unseen pairs {scores['held_out']['all']:.3f}" if "held_out" in scores else ""
    return (
        f"read as asked {words}{held_out}, Frechet {scores['frechet']:.3g} = {ratio:.1f} x floor, "
        f"recall {scores['recall']:.2f}, {scores['minutes']:.1f} min"
    )
