"""A generator with its condition, ready to be asked for images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.model_io.model_folder import DTYPES, ModelInfo, load_model, save_model
from sgxl_t.model_io.model_hash import model_hash
from sgxl_t.model_io.named_model import named_folder
from sgxl_t.model_io.run_model import model_in
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.ops.backend import ConvBackend, FilterBackend
from sgxl_t.ops.device import choose_device
from sgxl_t.sampling.asked_numbers import check_seeds, parse_layers, spread_psi
from sgxl_t.sampling.best import best_images, open_scorer
from sgxl_t.sampling.directions.direction import Directions, open_directions
from sgxl_t.sampling.directions.find import DirectionFinder
from sgxl_t.sampling.drawing import Drawing, SamplingPrecision
from sgxl_t.sampling.fast.optimize import Optimized
from sgxl_t.sampling.given import (
    Generators,
    Given,
    Source,
    are_generators,
    given_latents,
    latents_of,
    specs_of_draws,
    specs_of_rows,
)
from sgxl_t.sampling.hub import upload
from sgxl_t.sampling.image import GeneratedImage, GeneratedImages, OutputType, check_output
from sgxl_t.sampling.inversion.tuned import Tuned
from sgxl_t.sampling.latents import Latents, latent_specs
from sgxl_t.sampling.prompt_cache import PromptCache
from sgxl_t.sampling.sample_spec import (
    Curve,
    Drawable,
    Mix,
    SampleSettings,
    SampleSpec,
    Space,
    Specs,
    TruncationMode,
    candidates,
    make_mix,
    of_chosen,
)
from sgxl_t.sampling.sheets.mixing import MixingTable
from sgxl_t.sampling.truncation.centroids import Centroids, load_centroids, save_centroids
from sgxl_t.sampling.truncation.truncation import Truncation, check_truncation
from sgxl_t.sampling.walks.keys import walk_keys
from sgxl_t.sampling.walks.move import Move, plan_move
from sgxl_t.sampling.walks.plan import WalkSettings, plan_interpolation

if TYPE_CHECKING:
    from sgxl_t.sampling.inversion.invert import Inversion, Inverted
    from sgxl_t.sampling.inversion.optimise import Step

log = logging.getLogger(__name__)


class Pipeline:
    """Images from prompts, classes or nothing, by seed.

    An image is a function of model, condition, seed and truncation: its latent is drawn on the CPU from its
    own seed and its noise is the model's constant one. The same call gives the same bytes again. Another
    batch size, device or precision sums floating point numbers in another order, which may move a channel
    value (0 to 255) by one here and there. Each prompt is encoded once.
    """

    def __init__(
        self,
        generator: Generator,
        condition: Condition,
        info: ModelInfo | None = None,
        *,
        device: str | torch.device | None = None,
        precision: SamplingPrecision = "fp32",
        centroids: Centroids | None = None,
    ) -> None:
        """Moves generator and condition to the device and freezes the generator.

        device: torch's name of it; None takes CUDA where there is one. precision: of products.
        centroids: centres for truncation="centroid"; None takes those of the model folder, when it has some.
        """
        self.generator = generator.eval().requires_grad_(False)
        self.condition, self.info, self.precision = condition.eval(), info, precision
        self._place_on(choose_device(device))
        self._centroids = centroids
        self._warned: set[str] = set()
        self.tuned: Tuned | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: SamplingPrecision = "fp32",
        tuned: str | Path | None = None,
    ) -> Pipeline:
        """Loads a model folder, a Hub repository by its id "owner/name" (downloaded once, then cached), or
        demo_text of the package.

        A run folder gives its best/, or its last/ where there is no best/ yet; stderr says which.
        tuned: file of a generator that inversion tuned, whose changes are added to the model's.
        """
        changes = None if tuned is None else Tuned.open(tuned)
        folder = model_in(named_folder(model))
        generator, condition, info = load_model(folder)
        pipe = cls(generator, condition, info, device=device, precision=precision)
        return pipe if changes is None else pipe.tuned_by(changes)

    def tuned_by(self, changes: Tuned) -> Pipeline:
        """A pipeline with the changes added to the generator, on the same device; this one stays as it is.

        ValueError of one sentence where they belong to another model.
        """
        generator = changes.applied(self.generator, self.model_hash)
        twin = Pipeline(
            generator,
            self.condition,
            self.info,
            device=self.device,
            precision=self.precision,
            centroids=self._centroids,
        )
        twin.tuned = changes
        return twin

    def invert(
        self,
        photos: Sequence[str | Path | Image.Image | Tensor] | str | Path | Image.Image,
        conditions: Any = None,
        *,
        progress: Callable[[Inversion, Step], None] | None = None,
        **settings: Any,
    ) -> Inverted:
        """Latents that make photographs, and a generator tuned to them where pti=STEPS is asked for.

        photos: files, PIL's images or uint8 tensors [3, H, W]; one, or several, which one batch takes.
        conditions: a prompt or class for all, or one each; without any it is found.
        settings: those of `InversionSettings`, such as steps, space and pti. progress: called at every step.

            found = pipe.invert("cat.jpg", pti=350)
            pipe.tuned_by(found.tuned)(ws=found.latents).images
        """
        from sgxl_t.sampling.inversion.invert import invert_photos  # feature networks, timm, torchvision

        given: Sequence[Any] = photos if isinstance(photos, list | tuple) else [photos]
        asked = [] if conditions is None else self.condition.resolve(conditions)
        return invert_photos(self.source, self.info, given, asked, progress=progress, **settings)

    @property
    def centroids(self) -> Centroids | None:
        """Centres for truncation="centroid", read from the model folder when first needed; None without."""
        if self._centroids is None and self.info is not None:
            self._centroids = load_centroids(self.info.folder, self.generator)
        return self._centroids

    @cached_property
    def model_hash(self) -> str | None:
        """Hash of the model folder's files, by which latents know their model; None without a folder."""
        return None if self.info is None else model_hash(self.info.folder)

    @property
    def drawn_by(self) -> str | None:
        """What images are drawn by: the model's hash, and that of the changes of a tuned generator."""
        return self.model_hash if self.tuned is None else f"{self.model_hash}+{self.tuned.digest}"

    def to(self, device: str | torch.device) -> Pipeline:
        """Moves generator and condition to another device and returns the pipeline itself.

        What `optimize` did was for the device before and is taken back.
        """
        if isinstance(device, torch.dtype):
            raise ValueError(
                f"{device} is no device: the precision of products is chosen with Pipeline(..., precision=)"
            )
        self._place_on(choose_device(device))
        return self

    def _place_on(self, device: torch.device) -> None:
        """Generator, condition and what draws on a device."""
        self.device = device
        self._drawing = Drawing(
            self.generator, PromptCache(self.condition, self.generator), device, self.precision
        )
        self.generator.to(device)
        self.condition.to(device)

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32", **provenance: Any
    ) -> Path:
        """Writes a model folder; keywords add to what is known about data, features, seed, licence."""
        known = dict(self.info.provenance) if self.info else {}
        metrics = self.info.metrics if self.info else None
        centroids = self.centroids  # read now: the folder they come from may be the one that is replaced
        path = save_model(folder, self.generator, self.condition, known | provenance, metrics, dtype=dtype)
        if centroids is not None:
            save_centroids(path, centroids, self.generator, DTYPES[dtype])
        return path

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model folder to the Hub; returns its address. ValueError when the Hub refuses."""
        return upload(repository, self.save_pretrained, private=private, token=token)

    def __call__(
        self,
        conditions: Any = None,
        *,
        seed: int | torch.Generator = 0,
        seeds: Sequence[int] | Sequence[torch.Generator] | None = None,
        generator: Generators | None = None,
        z: Any = None,
        w: Any = None,
        ws: Any = None,
        psi: float | Sequence[float] = 1.0,
        cutoff: int | None = None,
        truncation: TruncationMode = "class",
        mix: Any = None,
        layers: Sequence[int] | str | None = None,
        best_of: int = 1,
        clip: ClipModel | str | None = None,
        batch_size: int | None = None,
        output_type: OutputType = "pil",
        output: OutputType | None = None,
    ) -> Any:
        """`GeneratedImages` for every condition and every seed, condition by condition; or their `Latents`.

        conditions: a prompt or a list of prompts; a class name, number, range "0-9" or a list of these;
            nothing for an unconditional model. seed: one seed; seeds: several, instead of it; torch's
            generators as well, as if given as generator.
        generator, z, w, ws: what to draw from instead of seeds, see `Given`. Every condition goes with every
            z, and takes the next draw of every generator; rows of w and ws take one condition for all or one
            each, without any those they bring along.
        psi: 1 keeps full variety, towards 0 images become typical; one number, or one for each condition.
            Rows of w and ws are pulled further than they were, by one number for all or one each.
        cutoff: truncate only the first so many styles.
        truncation: what typical means: "class" for the class or prompt, "centroid" for the nearest of many
            centres (see `sgxl-t centroids`), which keeps more variety, "global" for all classes.
        mix: a second prompt or class whose styles take over these layers: numbers, or text such as "4-9".
        best_of: for seed s, images of the seeds s * best_of to s * best_of + best_of - 1 are made and the
            one that fits its prompt best by CLIP is kept, under its own seed. clip: loaded, or by reference
            (`open_clip:MODEL/TAG`, `local:FOLDER`); None takes the model's own, where it has its image tower.
        batch_size: images at a time; None takes as many as fit into memory, up to 16.
        output_type: "pil", "np", "pt" (see `GeneratedImages.given_as`) or "latents"; output: the same.
        """
        check_output(output or output_type)
        settings = SampleSettings(truncation, cutoff, best_of, clip, batch_size)
        asked: Any = seed if seeds is None else seeds
        seeded = seeds is not None or seed != 0
        if generator is None and are_generators(asked):
            generator, seeded = asked, False
        given, mixed = Given(generator, z, w, ws), self.mixed(mix, layers)
        given.check(seeded=seeded)
        if given.any:
            specs = self._given_specs(conditions, given, psi, mixed, settings)
        else:
            specs = self._specs(conditions, asked, psi, mixed)
        if (output or output_type) == "latents":
            return self.latents_of(specs, settings)
        return GeneratedImages.of(self.sample(specs, settings)).given_as(output or output_type)

    def latents_of(self, specs: Specs, settings: SampleSettings | None = None) -> Latents:
        """What images of these specs are drawn from, a row each; with best-of, what the chosen ones are."""
        settings = settings or SampleSettings()
        if settings.best_of > 1:
            chosen = self.sample(specs, settings)
            specs = [of_chosen(spec, image) for spec, image in zip(specs, chosen, strict=True)]
        return latents_of(self.source, specs, self._truncation(settings))

    @property
    def source(self) -> Source:
        """What latents are made with."""
        return Source(self.generator, self._drawing.prompts, self.condition, self.model_hash)

    def iterate(
        self,
        conditions: Any = None,
        *,
        seeds: int | Sequence[int] = 0,
        psi: float | Sequence[float] = 1.0,
        mix: Any = None,
        layers: Sequence[int] | str | None = None,
        **settings: Any,
    ) -> Iterator[GeneratedImage]:
        """The images of a call one after the other, so that many need no more memory than one batch.

        settings: those of `SampleSettings`.
        """
        specs = self._specs(conditions, seeds, psi, self.mixed(mix, layers))
        return self.sample(specs, SampleSettings(**settings))

    def pairs(
        self,
        conditions: Sequence[Any],
        seeds: Sequence[int],
        *,
        psi: float | Sequence[float] = 1.0,
        **settings: Any,
    ) -> Iterator[GeneratedImage]:
        """One image for each condition with the seed at the same place; as many seeds as conditions."""
        resolved, listed = self._resolve(conditions), check_seeds(seeds)
        if len(resolved) != len(listed):
            raise ValueError(
                f"{len(resolved)} conditions cannot be paired with {len(listed)} seeds: give one seed each"
            )
        each = zip(resolved, listed, spread_psi(psi, len(resolved)), strict=True)
        return self.sample([SampleSpec(*one) for one in each], SampleSettings(**settings))

    def interpolate(
        self,
        conditions: Any = None,
        *,
        frames: int = 7,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        psi: float | Sequence[float] = 1.0,
        space: Space | None = None,
        curve: Curve | None = None,
        loop: bool = False,
        **settings: Any,
    ) -> GeneratedImages:
        """Images on the way from each key to the next, with `frames` between two of them.

        conditions: the keys: prompts or classes, and Latents, each row of which is a key, in any order; one,
            or nothing, with several seeds, which then are the keys.
        seed: of all keys; seeds: one for each prompt or class.
        psi: one number, or one for each prompt or class (Latents have theirs). space, curve, loop: see
            `WalkSettings`. settings: those of `SampleSettings`.
        The images at keys are those of a plain call; a loop ends with the image it began with.
        """
        walk = WalkSettings(frames, space, curve, loop)
        listed = self._keys(conditions, [seed] if seeds is None else check_seeds(seeds), psi)
        planned = plan_interpolation(listed, walk, self.condition.kind)
        return GeneratedImages.of(self.sample(planned, SampleSettings(**settings)))

    def move(
        self, conditions: Any = None, *, how: Move = "translate", frames: int = 47, **asked: Any
    ) -> GeneratedImages:
        """One picture on its way round, moved by the generator's input: frames + 2 images, see `plan_move`.

        asked: what else a call takes (seed, ws, psi, mix, ...). An alias-free generator draws the same
        picture at each place; of the stylegan_t family the borders and the noise stay where they are.
        """
        latents = self(conditions, output_type="latents", **asked)
        planned = [frame for spec in latent_specs(latents) for frame in plan_move(spec, frames, how)]
        return GeneratedImages.of(self.sample(planned))

    @property
    def directions(self) -> DirectionFinder:
        """Finds directions in w: `between` two prompts, classes or sets of latents, `pca`, `closed_form`."""
        return DirectionFinder(self.source)

    def edit(
        self,
        latents: Latents | str | Path,
        directions: Directions | str | Path,
        strengths: float | Sequence[float] = 1.0,
        *,
        layers: Sequence[int] | str | None = None,
    ) -> Latents:
        """Every row moved along every direction by every strength: Latents again, which `ws=` draws.

        latents, directions: values or files, with or without numbers of rows. layers: those that move,
        numbers or text such as "3-9"; None for all. ValueError for latents and directions of another model.
        """
        rows = given_latents(self.source, Given(ws=latents), None)
        chosen = directions if isinstance(directions, Directions) else open_directions(str(directions))
        moved = parse_layers(layers) if isinstance(layers, str) else layers
        return chosen.applied(rows, strengths, self.generator, moved)

    def mixing_grid(self, rows: Latents, columns: Latents, layers: Sequence[Sequence[int]]) -> Image.Image:
        """A style-mixing table: rows of latents that take groups of layers from columns of latents."""
        table = MixingTable(rows, columns, layers)
        return table.sheet(self(ws=table.latents()).images).drawn()

    def nearest_grid(
        self, made: GeneratedImages, data: str, *, split: str = "train", most: int = 5000
    ) -> Image.Image:
        """Generated images beside the nearest of `most` images of a data set, with distances."""
        from sgxl_t.sampling.sheets.nearest import NearestSearch  # and with it torchvision

        search = NearestSearch.of(data, self.generator.img_resolution, split=split, most=most)
        return search.sheet(made.images, made.conditions)[0].drawn()

    def sample(self, specs: Specs, settings: SampleSettings | None = None) -> Iterator[GeneratedImage]:
        """Images of specs, or of the frames between them, that were planned one by one."""
        settings = settings or SampleSettings()
        truncation = self._truncation(settings)
        if settings.best_of == 1:
            return self._drawing.images(specs, truncation, settings.batch_size)
        plain = [spec for spec in specs if isinstance(spec, SampleSpec) and spec.mix is None]
        if len(plain) < len(specs):
            raise ValueError(
                "best-of compares images of seeds with one prompt each: leave the mix, or the latents, out"
            )
        scorer = open_scorer(self.condition, settings.clip, self.device)
        check_seeds([replace(spec, seed=(spec.seed + 1) * settings.best_of - 1).seed for spec in plain])
        tried = (one for spec in plain for one in candidates(spec, settings.best_of))
        generated = self._drawing.images(tried, truncation, settings.batch_size)
        return best_images(generated, settings.best_of, scorer)

    def mixed(self, other: Any, layers: Sequence[int] | str | None) -> Mix | None:
        """The mix of a prompt or class and layers, checked; None without both."""
        return make_mix(self.condition, other, layers, self.generator.num_ws)

    def optimize(
        self,
        *,
        conv: ConvBackend | None = None,
        filter: FilterBackend | None = None,
        compile: bool = False,
        cuda_graphs: bool = False,
        batch_size: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Optimized:
        """From now on caches all that does not depend on the latent; returns (and prints as) what was done.

        Without arguments images are the same up to rounding. conv="winograd": convolutions with a quarter
        of the multiplications, errors about 1e-5. filter="compiled", "triton": filters by a compiler.
        compile: torch.compile of the synthesis. cuda_graphs: it is launched as a whole. All but the first
        cost seconds to minutes now. batch_size: what code is compiled or captured for (the last two take 1
        unless given); other numbers of images are filled up or cut. Weights may change afterwards in any
        way that torch counts (`load_state_dict`, optimisers), not through `.data` on a GPU. progress: gets a
        line before compilation begins. ValueError for what cannot run here.
        """
        size = batch_size or 1 if compile or cuda_graphs else batch_size
        choice = Optimized(conv, filter, compile, cuda_graphs, size)
        return self._drawing.optimize(choice, progress)

    def restore(self) -> None:
        """Takes `optimize` back; compiled code and graphs are freed."""
        self._drawing.fast = None

    def fitting_batch(self) -> int:
        """Images at a time that an automatic batch has now; on a GPU one may be made to measure it."""
        return self._drawing.fitting_batch()

    def _specs(
        self,
        conditions: Any,
        seeds: int | Sequence[int],
        psi: float | Sequence[float],
        mix: Mix | None = None,
    ) -> list[SampleSpec]:
        """One spec for every condition and every seed, condition by condition."""
        resolved, listed = self._resolve(conditions, mix), check_seeds(seeds)
        psis = spread_psi(psi, len(resolved))
        return [
            SampleSpec(one, seed, own, mix)
            for one, own in zip(resolved, psis, strict=True)
            for seed in listed
        ]

    def _keys(self, keys: Any, seeds: Sequence[int], psi: float | Sequence[float]) -> list[Drawable]:
        """The keys of a walk, in order."""
        items = keys if isinstance(keys, list | tuple) else [] if keys is None else [keys]
        parts = [one if isinstance(one, Latents) else self._resolve([one]) for one in items]
        return walk_keys(self.source, parts or [self._resolve(None)], seeds, psi)

    def _given_specs(
        self,
        conditions: Any,
        given: Given,
        psi: float | Sequence[float],
        mix: Mix | None,
        settings: SampleSettings,
    ) -> Specs:
        """A spec for every row of latents that are given or drawn."""
        if given.w is None and given.ws is None:
            specs = self._specs(conditions, [0], psi, mix)
            return specs_of_draws(self.source, given, specs, self._truncation(settings))
        if mix is not None:
            raise ValueError("a mix takes a prompt's styles for the same seed, which w and ws have none of")
        return specs_of_rows(
            self.source, given, None if conditions is None else self._resolve(conditions), psi
        )

    def _resolve(self, conditions: Any, mix: Mix | None = None) -> list[Any]:
        """Resolved conditions; a warning in the log, once for each pipeline, of words that change nothing."""
        resolved = self.condition.resolve(conditions)
        for note in self.condition.reading_notes(resolved if mix is None else [*resolved, mix.condition]):
            if note not in self._warned:
                self._warned.add(note)
                log.warning("%s", note)
        return resolved

    def _truncation(self, settings: SampleSettings) -> Truncation:
        """The truncation of these settings, checked, with its centres."""
        centroids = self.centroids if settings.truncation == "centroid" else None
        truncation = Truncation(settings.truncation, settings.cutoff, centroids)
        check_truncation(self.generator, truncation)
        return truncation
