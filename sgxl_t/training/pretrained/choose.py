"""Which published networks a new run takes, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from huggingface_hub import constants

from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.networks.frozen import CACHED, load_feature_network, load_text_encoder, on_this_machine
from sgxl_t.networks.weights.hub import hub_trouble
from sgxl_t.training.config.auto_networks import AUTO, AutoNetworks, Use
from sgxl_t.training.pretrained.published import PUBLISHED, Processor, Published


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a new run needs networks for.

    wanted: whether published ones are asked for, so that nothing else will do. pictures_read: whether the
    image tower of the text encoder is needed. left: uses that are for networks of the run's own, with the
    reason. fetch: download what the cache lacks; without, whether the hub answers decides.
    """

    uses: Sequence[Use]
    processor: Processor
    wanted: bool
    pictures_read: bool
    left: dict[Use, str] = field(default_factory=dict)
    fetch: bool = True


def choose(question: Question) -> tuple[AutoNetworks, str | None]:
    """Published networks for the uses, and one sentence for the log, None where there is nothing to say.

    Decided within seconds, whatever the network does; what is then fetched takes its time. ValueError of one
    sentence where published networks are asked for and cannot be had.
    """
    offered = {use: PUBLISHED[question.processor].get(use) for use in question.uses}
    named: dict[Use, str] = {}
    taken: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    asked: dict[str, tuple[bool, str]] = {}
    for use, network in offered.items():
        if network is None:  # no such kind, or no such role: for the building of networks to judge
            continue
        why_not = None if question.wanted else _unsuitable(question, use, network)
        if why_not is None:
            reference = network.reference
            if reference not in asked:
                asked[reference] = _at_hand(reference, use, question)
            there, words = asked[reference]
            if there:
                named[use] = reference
                taken.setdefault(f"{reference} ({words})", []).append(f"{AUTO}{use.kind}")
                continue
            why_not = f"{reference} is {words}"
            if question.wanted:
                raise ValueError(
                    f"features=pretrained needs published networks, and {why_not}: connect to the hub once, "
                    "copy its cache and set HF_HOME, or take --features local"
                )
        left.setdefault(why_not, []).append(f"{AUTO}{use.kind}")
    whole = bool(named) and len(named) == len(question.uses)
    seen = [offered[use] for use in named if use.role not in ("class", "text")]
    sides = [network.side for network in seen if network is not None and network.side is not None]
    networks = AutoNetworks(named, min(sides, default=None), "pretrained" if whole else "local")
    return networks, _sentence(taken, left, networks.side)


def _unsuitable(question: Question, use: Use, network: Published) -> str | None:
    """Why the run is better off with a network of its own here."""
    if use in question.left:
        return question.left[use]
    if use.role == "text" and question.pictures_read and not network.guides:
        return (
            f"guidance by {network.reference} is too slow for a CPU (--objective.clip_weight 0 or --features "
            "pretrained takes it)"
        )
    return None


def _at_hand(reference: str, use: Use, question: Question) -> tuple[bool, str]:
    """Whether a network can be had, and where it is, or why it cannot."""
    if (place := on_this_machine(reference)) is not None:
        return True, place
    trouble = hub_trouble()
    if trouble is not None:
        return False, f"not {CACHED} and {trouble}"
    if question.fetch:
        try:
            with torch.random.fork_rng(devices=[]):  # first weights must not show in later random numbers
                _fetch(reference, use, images=question.pictures_read)
        except Exception as error:  # libraries have their own kinds for what breaks on the way
            if is_out_of_memory(error):
                raise
            return False, f"not {CACHED} and could not be fetched from {constants.ENDPOINT}"
    return True, f"from {constants.ENDPOINT}"


def _fetch(reference: str, use: Use, *, images: bool) -> None:
    if use.role == "text":
        load_text_encoder(reference, images=images)
    else:
        load_feature_network(reference)


def _sentence(taken: dict[str, list[str]], left: dict[str, list[str]], side: int | None) -> str | None:
    parts = [f"{reference} for {_listed(kinds)}" for reference, kinds in taken.items()]
    if parts and side is not None:
        parts[-1] += f"; the discriminator's see images of {side} px"
    parts += [f"{_listed(kinds)} trained on the run's own images, as {why}" for why, kinds in left.items()]
    return "feature networks: " + "; ".join(parts) if parts else None


def _listed(kinds: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(kinds))
