"""Results on disk and on screen: one JSON line per number with everything that made it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import sgxl_t
from sgxl_t.datasets.decode import Size
from sgxl_t.files.lock import in_turn
from sgxl_t.files.regular import read_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value, parse_json
from sgxl_t.files.whole import write_whole
from sgxl_t.metrics.generated import CLASS_SAMPLING
from sgxl_t.metrics.protocol import GENERATOR_REDUCTIONS
from sgxl_t.metrics.real_cache import RealImages
from sgxl_t.metrics.runner import MetricResult

ResultEntry = dict[str, Any]
IDENTITY = ("metric", "model", "model_hash", "psi", "sampler_seed", "protocol", "n_fake")
"""Keys that identify a result, together with its seeds."""
KEYS = (*IDENTITY, "value", "n_real", "lower_is_better")
"""Keys of every line; the others say how the number was made."""
COLUMNS = (
    "metric",
    "value",
    "std",
    "std_over",
    "n_real",
    "n_fake",
    "reduction",
    "ddof",
    "extractor",
    "extractor_hash",
    "output",
    "preprocessing",
    "data",
    "data_fingerprint",
    "resolution",
    "sampling",
    "prompts",
    "psi",
    "sampler_seed",
    "seeds",
    "model",
    "model_hash",
    "code_version",
    "protocol",
    "note",
)
FACTS = {
    "n_fake": "generated pictures",
    "n_real": "real pictures",
    "extractor_hash": "weights of the extractor",
    "preprocessing": "preprocessing",
    "data_fingerprint": "fingerprint of the data",
    "resolution": "resolution",
    "ddof": "ddof",
    "sampling": "sampling",
    "prompts": "prompts",
    "metric": "metric",
}
"""Keys in which two protocols may differ, the most telling first, and what messages call them."""
TEXTS = ("metric", "model", "protocol")
OPTIONAL_TEXTS = (
    "model_hash",
    "reduction",
    "extractor",
    "extractor_hash",
    "output",
    "preprocessing",
    "data",
    "data_fingerprint",
    "sampling",
    "prompts",
    "note",
    "std_over",
)
COUNTS = ("n_fake", "n_real")
MAX_RESULTS = 64 * 2**20


def make_entry(
    result: MetricResult, described: Mapping[str, Any], real: RealImages | None, size: Size
) -> ResultEntry:
    """The line of a result. described: what the generated images say of themselves; size: theirs.

    Its resolution is one number for squares, otherwise [width, height].
    """
    spec = result.spec
    own: int | list[int] = size[0] if size[0] == size[1] else [size[1], size[0]]
    fingerprint = real.fingerprint if real is not None and spec.needs_real else None
    facts = {
        "extractor_hash": result.info.extractor_hash,
        "preprocessing": result.info.preprocessing,
        "data_fingerprint": fingerprint,
        "n_real": result.n_real,
        "prompts": described.get("prompts"),
        "resolution": spec.resolution or own,
    }
    entry: ResultEntry = {
        "metric": result.metric,
        "value": result.value if math.isfinite(result.value) else None,
        "std": result.std,
        "std_over": result.std_over or None,
        "n_real": result.n_real,
        "n_fake": spec.n_fake,
        "reduction": spec.reduction,
        "lower_is_better": spec.lower_is_better,
        "ddof": spec.ddof if spec.reduction == "frechet" else None,
        **{name: value or None for name, value in vars(result.info).items()},
        "output": spec.output or None,
        "data": real.reference if fingerprint is not None and real is not None else None,
        "data_fingerprint": fingerprint,
        "resolution": spec.resolution or own,
        **described,
        "code_version": sgxl_t.__version__,
        "protocol": spec.protocol(facts),
    }
    if spec.reduction in GENERATOR_REDUCTIONS:
        entry["psi"] = 1.0
    if result.note:
        entry["note"] = result.note
    return entry


def over_seeds(repeats: Sequence[Sequence[ResultEntry]]) -> list[ResultEntry]:
    """Entries of the same request with several seeds, joined: mean, sample deviation and the values."""
    if len(repeats) == 1:
        return list(repeats[0])
    joined = []
    for same in zip(*repeats, strict=True):
        values = [entry["value"] for entry in same]
        usable = all(value is not None for value in values)
        joined.append(
            {
                **same[0],
                "value": fmean(values) if usable else None,
                "std": stdev(values) if usable else None,
                "std_over": "seeds",
                "seeds": [entry["sampler_seed"] for entry in same],
                "values": values,
            }
        )
    return joined


def read_results(path: str | Path) -> list[ResultEntry]:
    """The lines of a results file; ValueError of one sentence when it is none."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no results file: name one that `sgxl-t evaluate --json` has written")
    try:
        text = read_regular(path, MAX_RESULTS).decode()
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        return [_checked(parse_json(line, f"line {number}")) for number, line in lines]
    except ValueError as error:
        reason = visible(error).removesuffix(": repair or remove it")
        raise ValueError(f"{visible(path)} is no results file ({reason}): name another") from None


def _checked(line: Value) -> ResultEntry:
    """One line, after checks of everything in it that is compared, shown or written again."""
    line.keys()
    entry: ResultEntry = line.raw
    for name in KEYS:
        if name not in entry:
            raise line.error(f"lacks {name}")
    for name in TEXTS:
        line[name].text()
    for name in OPTIONAL_TEXTS:
        if (found := line.get(name)) is not None:
            found.text()
    for name in ("value", "std", "psi"):
        if (found := line.get(name)) is not None:
            found.number()
    for name in COUNTS:
        line[name].integer(0, 2**53)
    for seed in (line.get("sampler_seed"), *(line["seeds"].rows() if line.get("seeds") else ())):
        if seed is not None:
            seed.integer(-(2**63), 2**64 - 1)
    line["lower_is_better"].boolean()
    json.dumps(entry, ensure_ascii=False, allow_nan=False).encode()  # it may be written again
    return entry


def write_results(path: str | Path, entries: Sequence[ResultEntry]) -> None:
    """Adds lines to a results file, in place of older lines of the same model, metric, psi and seed.

    The file is whole at any time: the old one, or the new one. Processes that write to one file take turns,
    so that the lines of all are in it.
    """
    path = Path(path)
    new = {_identity(entry) for entry in entries}
    with _errors_in_words(path), in_turn(path):
        old = read_results(path) if path.exists() else []
        kept = [entry for entry in old if _identity(entry) not in new]
        lines = [json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in (*kept, *entries)]
        write_text(path, "\n".join(lines) + "\n")


def write_csv(path: str | Path, entries: Sequence[ResultEntry]) -> None:
    """A table of all entries, one line each; the file appears whole or not."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(entries)
    write_text(Path(path), text.getvalue())


def check_comparable(entries: Sequence[ResultEntry]) -> None:
    """Raises ValueError, naming what differs, where two models have no number of one kind in common.

    Numbers of one kind lie on one scale: somebody would compare them.
    """
    kinds: dict[str, dict[str, list[ResultEntry]]] = {}
    for entry in entries:
        kinds.setdefault(_kind(entry), {}).setdefault(entry["model"], []).append(entry)
    for models in kinds.values():
        first, *others = models.values()
        for other in others:
            if not any(_same(one, two) for one in first for two in other):
                one, two = first[0], other[0]
                raise ValueError(
                    visible(
                        f"{one['metric']} of {one['model']} and {two['metric']} of {two['model']} cannot be "
                        f"compared ({_difference(one, two)}): measure both in the same way"
                    )
                )


def comparison(entries: Sequence[ResultEntry]) -> str:
    """A table, metrics down and models across, the best number of each marked; checks that they compare."""
    check_comparable(entries)
    entries = _with_columns(entries)
    models = list(dict.fromkeys(entry["column"] for entry in entries))
    lines = list(dict.fromkeys((entry["metric"], entry["protocol"]) for entry in entries))
    cells = {(entry["metric"], entry["protocol"], entry["column"]): entry for entry in entries}
    rows = [["metric", *models]]
    for metric, protocol in lines:
        rows.append([visible(metric), *_shown([cells.get((metric, protocol, model)) for model in models])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [*text, *_legend(entries)])


def _shown(row: Sequence[ResultEntry | None]) -> list[str]:
    known = [entry["value"] for entry in row if entry and entry["value"] is not None]
    best = None
    if len(known) > 1:
        lower = next(entry for entry in row if entry)["lower_is_better"]
        best = min(known) if lower else max(known)
    cells = []
    for entry in row:
        if entry is None:
            cells.append("-")
            continue
        value = "NaN" if entry["value"] is None else f"{entry['value']:.6g}"
        if entry.get("std") is not None:
            value += f" +- {entry['std']:.2g}"
        cells.append(value + (" *" if best is not None and entry["value"] == best else ""))
    return cells


def _legend(entries: Sequence[ResultEntry]) -> list[str]:
    lines: list[str] = []
    for entry in {entry["protocol"]: entry for entry in reversed(entries)}.values():
        against = f"{entry['n_real']} real" if entry["n_real"] else "no real"
        parts = [f"{entry['metric']}: {entry['n_fake']} generated, {against} pictures"]
        if entry.get("data"):
            parts.append(f"{entry['data']} {entry.get('data_fingerprint')}")
        if entry.get("extractor"):
            weights, steps = entry.get("extractor_hash"), entry.get("preprocessing")
            parts.append(f"{entry['extractor']} {weights}, {steps}")
        lines.append(visible(", ".join([*parts, f"protocol {entry['protocol']}"])))
    notes = {entry["note"]: None for entry in entries if entry.get("note")}
    return ["", *reversed(lines), *(visible(f"note: {note}") for note in notes)]


def _with_columns(entries: Sequence[ResultEntry]) -> list[ResultEntry]:
    """The entries with the heading of their column: the model, with psi and seed where those differ."""
    seeds: dict[Any, set[Any]] = {}
    for entry in entries:
        seeds.setdefault((entry["model"], entry["psi"]), set()).add(entry["sampler_seed"])
    result = []
    for entry in entries:
        column, psi = visible(entry["model"]), entry["psi"]
        column += "" if psi in (None, 1.0) else f" psi {psi:g}"
        column += "" if len(seeds[entry["model"], psi]) == 1 else f" seed {entry['sampler_seed']}"
        result.append({**entry, "column": column})
    return result


def _kind(entry: ResultEntry) -> str:
    """Reduction, extractor and output: what numbers must share to lie on one scale."""
    extractor = (entry.get("extractor") or "").partition("/")[0]
    extractor = "local" if extractor.startswith("local:") else extractor
    ending = entry["metric"].rpartition("_")[2] if entry.get("reduction") == "precision_recall" else ""
    return f"{entry.get('reduction')}/{extractor}/{entry.get('output')}/{ending}"


def _same(first: ResultEntry, second: ResultEntry) -> bool:
    """Equal protocols; the rule by which classes are drawn must agree too where both have one."""
    rules = {first.get("sampling"), second.get("sampling")} & set(CLASS_SAMPLING)
    return first["protocol"] == second["protocol"] and len(rules) < 2


def _difference(first: ResultEntry, second: ResultEntry) -> str:
    """The first fact in which two protocols differ."""
    for name, words in FACTS.items():
        if first.get(name) != second.get(name):
            return f"{words}: {first.get(name)} and {second.get(name)}"
    return f"protocols {first['protocol']} and {second['protocol']}"


def _identity(entry: ResultEntry) -> tuple[Any, ...]:
    seeds = tuple(entry.get("seeds") or ())
    return (*(entry[key] for key in IDENTITY), seeds)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and its folder; ValueError where that fails."""
    with _errors_in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Turns errors of the file system into ValueErrors of one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ValueError(f"{path} cannot be written ({reason}): name another file") from None
