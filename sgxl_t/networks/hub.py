"""Fetching pretrained weights without hanging: an unreachable hub is noticed in seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from huggingface_hub import constants
from huggingface_hub.utils import get_session

PROBE_SECONDS = 4.0
"""Longest wait for the hub's first answer; its own retries would take about half a minute per file."""


LOCAL_WEIGHTS = "train local ones with `sgxl-t features train --data D` and name them local:FOLDER"


class MissingWeightsError(ValueError):
    """Pretrained weights are neither in the cache nor reachable; the message says what to do."""

    def __init__(self, reference: str, *, files: str = "weights", way_out: str = LOCAL_WEIGHTS) -> None:
        """files: what is missing. way_out: what else than the hub gives them."""
        super().__init__(
            f"{files} of {reference} are neither in the local cache nor could they be fetched: connect "
            f"to the hub once (or copy its cache and set HF_HOME), or {way_out}"
        )


@cache
def hub_reachable() -> bool:
    """Whether the hub answers within `PROBE_SECONDS`; asked once per process. HF_HUB_OFFLINE=1 means no."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # every kind of failure (name, route, certificate, proxy) means the same here
        return False
    return True


@contextmanager
def fetching(reference: str, *, files: str = "weights", way_out: str = LOCAL_WEIGHTS) -> Iterator[None]:
    """Runs a loader that may download; raises MissingWeightsError where its files cannot be had.

    Only the loading belongs inside: names are checked before, so that a failure here is a failure to fetch.
    While the hub is unreachable the loader runs in the hub library's offline mode, which finds cached files
    and fails at once otherwise.
    """
    offline, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = not hub_reachable()
    logging.disable(logging.ERROR)  # the loaders log their own failures, our sentence replaces them
    try:
        yield
    except Exception as error:  # loaders raise OSError, RuntimeError or their HTTP client's own kinds
        raise MissingWeightsError(reference, files=files, way_out=way_out) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.disable(level)
