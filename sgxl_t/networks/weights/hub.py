"""Fetching pretrained weights: said before it is done, and an unreachable hub is noticed in seconds."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from huggingface_hub import constants

from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.files.terminal import say
from sgxl_t.networks.weights.missing import MissingWeightsError

T = TypeVar("T")

Weights = Literal["pretrained", "none"]
"""What a network is loaded with. pretrained: the weights that its reference names. none: any numbers, for an
estimate that needs sizes alone; nothing is fetched and no weights are read."""

PROBE_SECONDS = 4.0
"""Longest wait for the hub's first answer; its own retries would take about half a minute per file."""

PROXY_REFUSES, SERVER_FAILS = 407, 500
"""HTTP status of a proxy that lets nobody through, and the first of those of servers that fail."""

LOCAL_WEIGHTS = "train local ones with `sgxl-t features train --data D` and name them local:FOLDER"


@dataclass(frozen=True)
class HubFiles:
    """Where on the hub the weights of a network are: a repository, and the names they may have in it."""

    repository: str
    names: Sequence[str]

    def cached(self) -> bool:
        """Whether the hub's cache on this machine has one of them; nothing is asked of the hub."""
        from huggingface_hub import try_to_load_from_cache  # it brings an HTTP client along

        paths = (try_to_load_from_cache(self.repository, name) for name in self.names)
        return any(isinstance(path, str) and os.path.exists(path) for path in paths)


def hub_reachable() -> bool:
    """Whether the hub answers within `PROBE_SECONDS`; asked once per process. HF_HUB_OFFLINE=1 means no."""
    return hub_trouble() is None


@cache
def hub_trouble() -> str | None:
    """Why nothing can be fetched from the hub, as the end of a sentence; None where it answers.

    Takes at most `PROBE_SECONDS`, however names are looked up and whatever a proxy does.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answer: list[str | None] = []
    # Look-ups of names have no time limit and a slow answer starts its own anew with every byte, so the
    # question runs beside us and may be left behind.
    asking = threading.Thread(target=lambda: answer.append(_ask()), daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return answer[0] if answer else _silent()


def _silent() -> str:
    return f"{constants.ENDPOINT} does not answer within {PROBE_SECONDS:g} seconds"


def _ask() -> str | None:
    from huggingface_hub.utils import get_session

    try:
        code = get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS).status_code
    except Exception as error:  # every kind of failure (name, route, certificate, proxy) means the same here
        kind = type(error).__name__
        return _silent() if "Timeout" in kind else f"{constants.ENDPOINT} cannot be reached ({kind})"
    # Mirrors may have nothing to show at their root; a proxy that refuses, or has nothing behind it, says so.
    if code == PROXY_REFUSES or code >= SERVER_FAILS:
        return f"{constants.ENDPOINT} answers with error {code}"
    return None


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
