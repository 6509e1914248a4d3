"""The page that the demonstration leaves: grids, scores beside what real pictures score, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgxl_t.training.callbacks.report.page import figure, page, table, write_page
from sgxl_t.training.callbacks.report.run_report import curves
from sgxl_t.training.callbacks.stats_file import read_stats


def write_demo_report(out: Path, scores: dict[str, Any]) -> Path:
    """Writes OUT/report.html from OUT/scores.json's content, the grids and the runs' numbers."""
    sections = [
        ("What this is", introduction(scores)),
        ("Pictures of the models in the package", packaged_section(out)),
        ("Class model: handwritten digits", class_section(out, scores["class"])),
        ("Text model: emoji scenes", text_section(out, scores["text"])),
    ]
    for kind in ("class", "text"):
        run = out / "runs" / kind
        stats = read_stats(run / "stats.jsonl")
        content = figure(run / "samples" / "reals.png", "training pictures") + curves(stats)
        sections.append((f"Training of the {kind} model", content))
    write_page(out / "report.html", page("sgxl_t demonstration", sections))
    return out / "report.html"


def introduction(scores: dict[str, Any]) -> str:
    """What was done, where, in how many minutes."""
    return (
        f"<p>Two generators trained on this machine in {scores['total_minutes']:.1f} minutes, with at most "
        f"{scores['peak_memory_gib']:.1f} GiB of memory. The feature networks behind the discriminators were "
        "trained on the same pictures just before. The judges that read the pictures ship with the package; "
        "they share neither weights nor seeds with any network that trained.</p>"
        '<p class="note">Frechet distances are taken in a judge\'s own features: they compare runs of this '
        "demonstration with its floor (real test pictures against training pictures, same counts) and with "
        "nothing else.</p>"
    )


def packaged_section(out: Path) -> str:
    """The sheets that were drawn before anything trained."""
    caption = "one row per {}, one column per seed; nothing was trained here for these"
    return figure(out / "demo_text.png", caption.format("prompt")) + figure(
        out / "demo_class.png", caption.format("class")
    )


def class_section(out: Path, scores: dict[str, Any]) -> str:
    """Grid and figures of the class model."""
    rows = [("read as the requested digit", scores["accuracy"], scores["accuracy_real"])]
    return figure(out / "class.png", "one row per class, one column per seed") + figures(rows, scores)


def text_section(out: Path, scores: dict[str, Any]) -> str:
    """Grid and figures of the text model."""
    rows = [
        (f"{name} as asked", value, scores["accuracy_real"][name])
        for name, value in scores["accuracy"].items()
    ]
    rows += [(f"{name} as asked, pairs never trained on", v, "") for name, v in scores["held_out"].items()]
    rows.append(("caption retrieved first", scores["retrieval_at_1"], scores["retrieval_at_1_real"]))
    return figure(out / "text.png", "one row per prompt, one column per seed") + figures(rows, scores)


def figures(rows: list[tuple[Any, ...]], scores: dict[str, Any]) -> str:
    """Table of figures, generated beside real, with the protocol under it."""
    rows = [
        *rows,
        ("Frechet distance, equal counts (real: the floor)", scores["frechet"], scores["frechet_floor"]),
        (
            "Frechet distance, all pictures (real: the floor)",
            scores["frechet_all"],
            scores["frechet_all_floor"],
        ),
        ("recall", scores["recall"], scores["recall_real"]),
        ("minutes, all in all", scores["minutes"], ""),
    ]
    protocol = (
        f'<p class="note">{scores["images"]} generated pictures; distances: {scores["frechet_images"]} '
        f"against as many training pictures, and {scores['frechet_all_images']} against up to 4000; "
        f"judge {scores['judge']}; psi {scores['psi']}; seeds from 0.</p>"
    )
    return table(rows, ("figure", "generated", "real")) + protocol
