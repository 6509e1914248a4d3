"""Fetching pretrained weights: said before it is done, and an unreachable hub is noticed in seconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar

from huggingface_hub import constants
from huggingface_hub.utils import get_session

from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.files.terminal import say
from sgxl_t.networks.weights.missing import MissingWeightsError

T = TypeVar("T")

Weights = Literal["pretrained", "none"]
"""What a network is loaded with. pretrained: the weights that its reference names. none: any numbers, for an
estimate that needs sizes alone; nothing is fetched and no weights are read."""

PROBE_SECONDS = 4.0
"""Longest wait for the hub's first answer; its own retries would take about half a minute per file."""

LOCAL_WEIGHTS = "train local ones with `sgxl-t features train --data D` and name them local:FOLDER"


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


def fetch(
    reference: str,
    load: Callable[[], T],
    *,
    files: str = "weights",
    way_out: str = LOCAL_WEIGHTS,
    address: str | None = None,
) -> T:
    """What `load` gives, from the hub's cache where it can, else from the hub, which is said before.

    Only the loading belongs into `load`: names are checked before, so that a failure in it is a failure to
    fetch. It runs in the hub library's offline mode first, which finds cached files and fails at once
    otherwise; then, where the hub answers, a second time.
    files: what is fetched. way_out: what else than the hub gives it.
    address: where the files come from if that is not the hub and so knows no offline mode.
    MissingWeightsError where the files cannot be had.
    """
    if address is not None:
        announce(files, reference, address)
    try:
        with _hub_library(offline=True):
            return load()
    except Exception as error:  # loaders raise OSError, RuntimeError or their HTTP client's own kinds
        if is_out_of_memory(error):
            raise
        failure = error
    if address is None and hub_reachable():
        announce(files, reference, constants.ENDPOINT)
        try:
            with _hub_library(offline=False):
                return load()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            failure = error
    raise MissingWeightsError(
        f"{files} of {reference} are neither in the local cache nor could they be fetched: connect "
        f"to the hub once (or copy its cache and set HF_HOME), or {way_out}"
    ) from failure


@contextmanager
def sizes_from_cache(reference: str) -> Iterator[None]:
    """Nothing is fetched inside: a description that the cache lacks is a ValueError."""
    try:
        with _hub_library(offline=True):
            yield
    except Exception as error:  # every loader has its own kinds
        raise ValueError(
            f"the sizes of {reference} are in its config.json, which is not here ({type(error).__name__}): "
            "start a run with it once, or place its files and name their folder"
        ) from error


def offline() -> bool:
    """Whether the hub library works from its cache alone; true inside of `fetch` while that is tried."""
    return bool(constants.HF_HUB_OFFLINE)


@cache
def announce(files: str, reference: str, address: str) -> None:
    """Says on stderr what is fetched and from where; once per process, by one process of a machine."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        say(f"fetching {files} of {reference} from {address}, unless its cache has them", err=True)


@contextmanager
def _hub_library(*, offline: bool) -> Iterator[None]:
    """The hub library with or without its network, and silent: the loaders log their own failures, which our
    sentence replaces."""
    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = offline
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)
