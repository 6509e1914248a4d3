"""What the exit code of a training run says; 0 is a run that is done. docs/faults.md tells what to do."""

USER_ERROR = 2
"""A mistake in the request, or no checkpoint that is whole: the same command fails again."""
DIVERGED = 65
"""Losses or gradients stay not finite, also after going back to a checkpoint; settings must change."""
HANG = 70
"""A process did not go on for schedule.watchdog_minutes; the newest checkpoint is whole."""
WRITE_FAILED = 74
"""The run folder cannot be written, such as on a full disk; the newest checkpoint is whole."""
INTERRUPTED = 75
"""Stopped and saved on a signal or by its time limit: the same command goes on (EX_TEMPFAIL: try again)."""
