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
from sgxl_t.metrics.features.weights import replacing
from sgxl_t.metrics.generated import CLASS_SAMPLING
from sgxl_t.metrics.protocol import GENERATOR_REDUCTIONS
from sgxl_t.metrics.real_cache import RealSide
from sgxl_t.metrics.runner import Result

Record = dict[str, Any]
IDENTITY = ("metric", "model", "model_hash", "psi", "sampler_seed", "protocol", "n_fake")
"""What tells one result from another, beside its seeds."""
KEYS = (*IDENTITY, "value", "n_real", "lower_is_better")
"""What every line has; the rest says how the number came about."""
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
"""What may set two protocols apart, in the order in which it is looked for, and how it is called."""
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


def make_record(result: Result, about: Mapping[str, Any], real: RealSide | None, size: Size) -> Record:
    """One line. about: what the generated side says of itself; size: of the generated pictures.

    Its resolution is the side of squares, or [width, height].
    """
    spec = result.spec
    side: int | list[int] = size[0] if size[0] == size[1] else [size[1], size[0]]
    fingerprint = real.fingerprint if real is not None and spec.needs_real else None
    facts = {
        "extractor_hash": result.about.extractor_hash,
        "preprocessing": result.about.preprocessing,
        "data_fingerprint": fingerprint,
        "n_real": result.n_real,
        "prompts": about.get("prompts"),
        "resolution": spec.resolution or side,
    }
    record: Record = {
        "metric": result.metric,
        "value": result.value if math.isfinite(result.value) else None,
        "std": result.std,
        "std_over": result.std_over or None,
        "n_real": result.n_real,
        "n_fake": spec.n_fake,
        "reduction": spec.reduction,
        "lower_is_better": spec.lower_is_better,
        "ddof": spec.ddof if spec.reduction == "frechet" else None,
        **{name: value or None for name, value in vars(result.about).items()},
        "output": spec.output or None,
        "data": real.reference if fingerprint is not None and real is not None else None,
        "data_fingerprint": fingerprint,
        "resolution": spec.resolution or side,
        **about,
        "code_version": sgxl_t.__version__,
        "protocol": spec.protocol(facts),
    }
    if spec.reduction in GENERATOR_REDUCTIONS:
        record["psi"] = 1.0
    if result.note:
        record["note"] = result.note
    return record


def over_seeds(repeats: Sequence[Sequence[Record]]) -> list[Record]:
    """Records of the same request with several seeds, joined: mean, sample deviation and the values."""
    if len(repeats) == 1:
        return list(repeats[0])
    joined = []
    for same in zip(*repeats, strict=True):
        values = [record["value"] for record in same]
        usable = all(value is not None for value in values)
        joined.append(
            {
                **same[0],
                "value": fmean(values) if usable else None,
                "std": stdev(values) if usable else None,
                "std_over": "seeds",
                "seeds": [record["sampler_seed"] for record in same],
                "values": values,
            }
        )
    return joined


def read_records(path: str | Path) -> list[Record]:
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


def _checked(line: Value) -> Record:
    """One line, of which everything that is compared, shown or written again is what it should be."""
    line.keys()
    record: Record = line.raw
    for name in KEYS:
        if name not in record:
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
    json.dumps(record, ensure_ascii=False, allow_nan=False).encode()  # it may be written again
    return record


def write_records(path: str | Path, records: Sequence[Record]) -> None:
    """Adds lines to a results file, in place of older lines of the same model, metric, psi and seed.

    The file is whole at any time: the old one, or the new one. Processes that write to one file take turns,
    so that the lines of all are in it.
    """
    path = Path(path)
    new = {_identity(record) for record in records}
    with _told(path), in_turn(path):
        old = read_records(path) if path.exists() else []
        kept = [record for record in old if _identity(record) not in new]
        lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in (*kept, *records)]
        _write(path, "\n".join(lines) + "\n")


def write_csv(path: str | Path, records: Sequence[Record]) -> None:
    """A table of all records, one line each; the file appears whole or not."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    _write(Path(path), text.getvalue())


def check_comparable(records: Sequence[Record]) -> None:
    """Raises ValueError, naming what differs, where two models have no number of one kind in common.

    Numbers of one kind lie on one scale: somebody would compare them.
    """
    kinds: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        kinds.setdefault(_kind(record), {}).setdefault(record["model"], []).append(record)
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


def comparison(records: Sequence[Record]) -> str:
    """A table, metrics down and models across, the best number of each marked; checks that they compare."""
    check_comparable(records)
    records = _with_columns(records)
    models = list(dict.fromkeys(record["column"] for record in records))
    lines = list(dict.fromkeys((record["metric"], record["protocol"]) for record in records))
    cells = {(record["metric"], record["protocol"], record["column"]): record for record in records}
    rows = [["metric", *models]]
    for metric, protocol in lines:
        rows.append([visible(metric), *_shown([cells.get((metric, protocol, model)) for model in models])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [*text, *_legend(records)])


def _shown(row: Sequence[Record | None]) -> list[str]:
    known = [record["value"] for record in row if record and record["value"] is not None]
    best = None
    if len(known) > 1:
        lower = next(record for record in row if record)["lower_is_better"]
        best = min(known) if lower else max(known)
    cells = []
    for record in row:
        if record is None:
            cells.append("-")
            continue
        value = "NaN" if record["value"] is None else f"{record['value']:.6g}"
        if record.get("std") is not None:
            value += f" +- {record['std']:.2g}"
        cells.append(value + (" *" if best is not None and record["value"] == best else ""))
    return cells


def _legend(records: Sequence[Record]) -> list[str]:
    lines: list[str] = []
    for record in {record["protocol"]: record for record in reversed(records)}.values():
        against = f"{record['n_real']} real" if record["n_real"] else "no real"
        parts = [f"{record['metric']}: {record['n_fake']} generated, {against} pictures"]
        if record.get("data"):
            parts.append(f"{record['data']} {record.get('data_fingerprint')}")
        if record.get("extractor"):
            weights, steps = record.get("extractor_hash"), record.get("preprocessing")
            parts.append(f"{record['extractor']} {weights}, {steps}")
        lines.append(visible(", ".join([*parts, f"protocol {record['protocol']}"])))
    notes = {record["note"]: None for record in records if record.get("note")}
    return ["", *reversed(lines), *(visible(f"note: {note}") for note in notes)]


def _with_columns(records: Sequence[Record]) -> list[Record]:
    """The records with the heading of their column: the model, and psi and seed where they need saying."""
    seeds: dict[Any, set[Any]] = {}
    for record in records:
        seeds.setdefault((record["model"], record["psi"]), set()).add(record["sampler_seed"])
    result = []
    for record in records:
        column, psi = visible(record["model"]), record["psi"]
        column += "" if psi in (None, 1.0) else f" psi {psi:g}"
        column += "" if len(seeds[record["model"], psi]) == 1 else f" seed {record['sampler_seed']}"
        result.append({**record, "column": column})
    return result


def _kind(record: Record) -> str:
    """Reduction, extractor and output: what numbers must share to lie on one scale."""
    extractor = (record.get("extractor") or "").partition("/")[0]
    extractor = "local" if extractor.startswith("local:") else extractor
    ending = record["metric"].rpartition("_")[2] if record.get("reduction") == "precision_recall" else ""
    return f"{record.get('reduction')}/{extractor}/{record.get('output')}/{ending}"


def _same(first: Record, second: Record) -> bool:
    """Equal protocols; the rule by which classes are drawn must agree too where both have one."""
    rules = {first.get("sampling"), second.get("sampling")} & set(CLASS_SAMPLING)
    return first["protocol"] == second["protocol"] and len(rules) < 2


def _difference(first: Record, second: Record) -> str:
    """The first fact that sets two protocols apart."""
    for name, words in FACTS.items():
        if first.get(name) != second.get(name):
            return f"{words}: {first.get(name)} and {second.get(name)}"
    return f"protocols {first['protocol']} and {second['protocol']}"


def _identity(record: Record) -> tuple[Any, ...]:
    seeds = tuple(record.get("seeds") or ())
    return (*(record[key] for key in IDENTITY), seeds)


def _write(path: Path, text: str) -> None:
    with _told(path), replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the file system as one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ValueError(f"{path} cannot be written ({reason}): name another file") from None
