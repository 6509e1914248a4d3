"""Where the directions of `sgxl-t edit` come from: options, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.files.terminal import say

if TYPE_CHECKING:
    from sgxl_t.sampling.directions.direction import Directions
    from sgxl_t.sampling.directions.edits_file import Edit
    from sgxl_t.sampling.directions.find import DirectionFinder
    from sgxl_t.sampling.pipeline import Pipeline
    from sgxl_t.sampling.sample_spec import Drawable

_OPTIONS = (
    click.option(
        "--direction",
        "files",
        multiple=True,
        metavar="FILE[:NUMBERS]",
        help="Directions in a file, all or some, such as pca.safetensors:0,2; repeatable.",
    ),
    click.option(
        "--from",
        "firsts",
        multiple=True,
        metavar="WHAT",
        help="Where a direction begins: a prompt, class or file of latents; repeated, the mean of several.",
    ),
    click.option(
        "--to", "lasts", multiple=True, metavar="WHAT", help="Where it ends; as many as --from, in its order."
    ),
    click.option("--name", metavar="NAME", help="What the direction of --from and --to is called."),
    click.option(
        "--edits", metavar="FILE", help="Named pairs of prompts, a line each, as in data/prompts/edits.txt."
    ),
    click.option(
        "--pick", "picks", multiple=True, metavar="NAME", help="Of --edits these alone; repeatable."
    ),
    click.option(
        "--clip",
        metavar="REF",
        help="Find what --from, --to and --edits say through a CLIP, for models of any condition: "
        "open_clip:MODEL/TAG, local:FOLDER, or own for that of a text model.",
    ),
    click.option(
        "--clip-images",
        type=int,
        default=768,
        show_default=True,
        metavar="N",
        help="Images that --clip looks at, eight in a step.",
    ),
    click.option(
        "--keep",
        type=float,
        default=0.05,
        show_default=True,
        help="With --clip: how much images are held where they were.",
    ),
    click.option("--pca", type=int, metavar="N", help="The N directions along which w spreads most."),
    click.option(
        "--closed-form",
        type=int,
        metavar="N",
        help="The N directions that the weights answer to most (SeFa).",
    ),
    click.option(
        "--save-direction", "save", metavar="FILE", help="Keep the directions, a .safetensors file."
    ),
)


@dataclass(frozen=True)
class DirectionRequest:
    """What was asked for; one source of directions at a time."""

    files: Sequence[str]
    firsts: Sequence[str]
    lasts: Sequence[str]
    name: str | None
    edits: str | None
    picks: Sequence[str]
    clip: str | None
    clip_images: int
    keep: float
    pca: int | None
    closed_form: int | None
    save: str | None

    def check(self) -> None:
        """ValueError, before anything is opened, unless there is one source and a place for what is kept."""
        sources = {
            "--direction": self.files,
            "--from and --to": self.firsts or self.lasts,
            "--edits": self.edits,
            "--pca": self.pca is not None,
            "--closed-form": self.closed_form is not None,
        }
        given = [name for name, value in sources.items() if value]
        if len(given) != 1:
            said = f"{' and '.join(given)} name directions twice" if given else "no direction was named"
            raise ValueError(f"{said}: give one of {', '.join(sources)}")
        if (self.picks and not self.edits) or (self.name is not None and not self.firsts):
            raise ValueError(
                "--pick chooses among --edits and --name names what --from and --to find: add those"
            )
        if self.clip is not None and not (self.firsts or self.edits):
            raise ValueError("--clip reads the words of --from and --to, or of --edits: add those")
        if len(self.firsts) != len(self.lasts):
            raise ValueError(
                f"{len(self.firsts)} of --from came with {len(self.lasts)} of --to: give as many of both"
            )
        if self.save is not None:
            from sgxl_t.sampling.directions.direction import check_direction_file
            from sgxl_t.sampling.output.image_files import check_writable

            check_writable(check_direction_file(self.save).parent)

    def directions(
        self, pipe: Pipeline, specs: Sequence[Drawable], layers: Sequence[int] | None
    ) -> tuple[Directions, bool]:
        """Opened or found, and whether Ctrl-C ended a search through --clip, the best so far of which counts.

        specs: what is edited; --pca and --closed-form look at its prompts or classes.
        """
        from sgxl_t.sampling.directions.direction import Directions, open_directions
        from sgxl_t.sampling.directions.edits_file import Edit, read_edits

        if self.files:
            opened = [(file, open_directions(file)) for file in self.files]
            for file, one in opened:
                one.check_fits(pipe.generator, file)
            return Directions.join([one for _, one in opened]), False
        find = pipe.directions
        known = list(dict.fromkeys(one for spec in specs for one in spec.conditions))
        conditions = known if known and pipe.condition.kind != "none" else None
        if self.edits is not None:
            edits = read_edits(self.edits, self.picks)
        else:
            edits = [Edit(self.name, tuple(self.firsts), tuple(self.lasts))] if self.firsts else []
        if edits and self.clip is not None:
            return self._through_clip(find, edits, conditions, layers)
        if edits:
            ways = [find.between(one.firsts, one.lasts, name=one.name, layers=layers) for one in edits]
            return Directions.join(ways), False
        if self.pca is not None:
            return find.pca(self.pca, conditions, layers=layers), False
        assert self.closed_form is not None
        return find.closed_form(self.closed_form, conditions, layers=layers), False

    def _through_clip(
        self, find: DirectionFinder, edits: Sequence[Edit], conditions: Any, layers: Sequence[int] | None
    ) -> tuple[Directions, bool]:
        """As `directions`. After a stop the direction so far counts, and edits not yet begun are left out."""
        from sgxl_t.files.interrupt import StopRequest
        from sgxl_t.sampling.directions.by_clip import ClipSettings
        from sgxl_t.sampling.directions.direction import Directions

        assert self.clip is not None
        settings = ClipSettings(images=self.clip_images, keep=self.keep)
        found: list[Directions] = []
        with StopRequest() as stop:
            for edit in edits:
                asked: dict[str, Any] = {"name": edit.name, "layers": layers, "settings": settings}
                ends = (edit.firsts, edit.lasts)
                found.append(find.by_clip(*ends, self.clip, conditions, stop=lambda: stop.requested, **asked))
                if stop:
                    break
        if stop:
            _say_stopped(found[-1], settings.steps, edits[len(found) :])
        return Directions.join(found), stop.requested


def _say_stopped(last: Directions, steps: int, left: Sequence[Edit]) -> None:
    """On stderr: at which step, and what was left out."""
    out = f"; left out: {', '.join(str(edit.name) for edit in left)}" if left else ""
    say(
        f"stopped after step {last.found['steps']} of {steps}; {last.names[0]!r} goes as far as that{out}",
        err=True,
    )


def direction_options(command: Callable[..., None]) -> Any:
    """Decorator: options about directions, which `command` gets as `asked`."""

    @wraps(command)
    def call(**options: Any) -> None:
        asked = DirectionRequest(**{name: options.pop(name) for name in DirectionRequest.__annotations__})
        command(asked=asked, **options)

    wrapped: Any = call
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def keep_directions(file: str, directions: Directions, *, overwrite: bool) -> None:
    """Writes them; ValueError where the file is there and holds something else."""
    from sgxl_t.sampling.directions.direction import Directions

    if Path(file).exists() and not overwrite:
        try:
            held: Directions | None = Directions.open(file)
        except ValueError:
            held = None
        same = held is not None and held.names == directions.names and held.mapping == directions.mapping
        if not (same and held is not None and held.vectors.equal(directions.vectors)):
            raise ValueError(
                f"{file} is there already and holds something else: name another file, or add --overwrite to "
                "replace it"
            )
    directions.save(file)
