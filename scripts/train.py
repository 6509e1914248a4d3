"""Trains a generator: `accelerate launch scripts/train.py --cond class`, or `--cond text`.

The same command with the same `--run-dir` resumes. `--help` has the short names, `--help-all` every key.
"""

from sgxl_t.training.train import main

if __name__ == "__main__":
    main()
