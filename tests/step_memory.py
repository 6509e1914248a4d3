"""One process of a training run that tells what it allocates: `torchrun ... step_memory.py FILE ARGUMENTS`.

Writes the peak of all bytes alive in an update, from the first tensor of the run on, to FILE, rank 0's.
"""

import sys
from pathlib import Path

import torch


def main():
    from sgxl_t.training.build_trainer import build_trainer
    from sgxl_t.training.config.config_file import parse_config
    from sgxl_t.training.parallel.runtime import Runtime

    target, *arguments = sys.argv[1:]
    config = parse_config(arguments)
    runtime = Runtime(deterministic=False)
    with torch.profiler.profile(profile_memory=True) as profiler:
        trainer = build_trainer(config, runtime, config.folder())
        trainer.data.open(trainer.state)
        trainer.update(trainer.next_batches())
        rounds = trainer.next_batches()
        with torch.profiler.record_function("measured update"):
            trainer.update(rounds)
    if runtime.is_main:
        Path(target).write_text(str(peak(profiler, "measured update")))
    runtime.finish()


def peak(profiler, name):
    """Most bytes alive at once between begin and end of the named block."""
    events = profiler.profiler.kineto_results.events()
    start = min(event.start_ns() for event in events if event.name() == name)
    live = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda event: event.start_ns()):
        live += event.nbytes()
        if event.start_ns() >= start:
            most = max(most, live)
    return most


if __name__ == "__main__":
    main()
