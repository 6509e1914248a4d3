"""What report.html shows: pictures beside their own words, samples over time, what numbers mean."""

import base64
import html
import io
import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_run
from torch import nn

from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.metrics.distances.nearest import reduced, usual_distance
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.training.callbacks.callback import Snapshot
from sgxl_t.training.callbacks.pictures import nearest, shown
from sgxl_t.training.callbacks.pictures.nearest import NearestImages
from sgxl_t.training.callbacks.pictures.shown import choose_rows
from sgxl_t.training.callbacks.pictures.timelapse import MOST_FRAMES, Timelapse, read_frames, spread
from sgxl_t.training.callbacks.report.charts import chart
from sgxl_t.training.callbacks.report.run_report import write_run_report
from sgxl_t.training.callbacks.report.words import MEANINGS, Curve, chosen_curves, tracked_names
from sgxl_t.training.callbacks.sample_grid import SampleGrid, read_rows
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.train import main

NASTY = ["a <b>red</b> fox", "<script>alert(1)</script>", 'cats & "dogs"', "ein grüner Frosch"]
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
LONG = {"schedule__kimg": 100, "schedule__snapshot_kimg": 100}


class Plain(ImageSource):
    """Plain pictures of four colours, two of each in turn, with label and caption; bars tell them apart."""

    def __init__(self, count=8, *, resolution=16):
        super().__init__(resolution=resolution, class_names=tuple(NASTY), has_captions=True)
        self.count, self.reads = count, 0

    def _count(self):
        return self.count

    def _read(self, index):
        self.reads += 1
        kind = index // 2 % 4
        image = torch.tensor(COLOURS[kind], dtype=torch.uint8).view(3, 1, 1).expand(3, 16, 16).clone()
        image[:, : index // 8 % 16] = 255
        return Sample(image, kind, NASTY[kind])

    def fingerprint(self):
        return "0" * 16


class Words(Condition):
    """Captions as their place in NASTY."""

    def __init__(self):
        super().__init__(ConditionSpec(kind="text", dim=1))

    def resolve(self, request):
        return [request]

    def label(self, condition):
        return str(condition)

    def from_batch(self, batch):
        return batch.captions

    def encode_frozen(self, conditions):
        return Conditioning(c=torch.tensor([[float(NASTY.index(one))] for one in conditions]))


class Painter(nn.Module):
    """Draws the colour of the condition, a little darker than the data has it."""

    z_dim, img_resolution = 4, 16

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, z, cond, *, truncation_psi, noise_mode):
        colours = torch.tensor(COLOURS, dtype=torch.float32) / 127.5 - 1.1
        kinds = torch.zeros(len(z)) if cond.c is None else cond.c.flatten()
        return colours[kinds.long()][:, :, None, None].expand(-1, 3, 16, 16)


CONDITIONS = {
    "class": ClassCondition(tuple(NASTY), torch.zeros(4, 4)),
    "text": Words(),
    "none": NoCondition(),
}


def state_of(condition, images_seen=0):
    network = Painter()
    return SimpleNamespace(
        condition=condition,
        images_seen=images_seen,
        g=SimpleNamespace(raw=network),
        ema=SimpleNamespace(network=network),
    )


@pytest.fixture(params=["class", "text"])
def run(request, tmp_path):
    """A run folder after one snapshot, without any training."""
    return snapshots(tmp_path, CONDITIONS[request.param], Plain())


def snapshots(folder, condition, source, moments=(8,)):
    (folder / "samples").mkdir(exist_ok=True)
    grid = SampleGrid(folder, source, rows=4, columns=3, seed=0)
    callbacks = [grid, Timelapse(folder, resolution=16), NearestImages(folder, source, grid)]
    for callback in callbacks:
        callback.on_start(state_of(condition))
    for images_seen in moments:
        snapshot = Snapshot(images_seen, Painter(), condition)
        for callback in callbacks:
            callback.on_snapshot(snapshot)
    write_run_report(folder)
    return folder


def page_of(folder):
    return (folder / "report.html").read_text()


def section(folder, heading):
    found = re.search(rf"<h2>{heading}</h2>(.*?)(<h2>|<script>)", page_of(folder), re.DOTALL)
    return found[1] if found else ""


def pictures(content):
    """Figures: the mean colour of each image, and the text below it."""
    found = re.findall(
        r'<img src="data:image/webp;base64,([^"]*)" alt="[^"]*">(?:<figcaption>(.*?)</figcaption>)?', content
    )
    for data, words in found:
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        yield np.median(np.asarray(image).reshape(-1, 3), axis=0), html.unescape(words)


def test_every_caption_stands_above_its_own_pictures_real_and_generated(run):
    rows = re.findall(
        r'<div class="row"><h3>(.*?)</h3>(.*?)</div></div>', section(run, "Generated beside real"), re.DOTALL
    )
    assert sorted(html.unescape(words) for words, _ in rows) == sorted(NASTY)
    for words, content in rows:
        colour = COLOURS[NASTY.index(html.unescape(words))]
        (real, below), (generated, under) = pictures(content)
        assert (below, under) == ("real", "generated")
        assert np.abs(real - colour).max() < 12, words
        assert np.abs(generated - colour).max() < 25, words


def test_nearest_pictures_stand_above_their_own_words(run):
    cards = re.findall(
        r'<div class="row near">(.*?)</div>', section(run, "Nearest training pictures"), re.DOTALL
    )
    assert len(cards) == 8
    for card in cards:
        for number, (colour, words) in enumerate(pictures(card)):
            role, _, name = words.partition(": ") if number < 2 else ("", "", words)
            assert np.abs(colour - COLOURS[NASTY.index(name)]).max() < 25
            assert number or role == "sample"


def test_names_are_text_and_nothing_comes_from_elsewhere(run):
    page = page_of(run)
    assert "<script>alert" not in page
    assert "<b>red" not in page
    assert html.escape(NASTY[1]) in page
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert not [source for source in sources if re.match(r"(\w+:)?//", source)]
    assert all(source.startswith("data:image/webp") or (run / source).exists() for source in sources)


def test_without_a_condition_two_grids_stand_side_by_side(tmp_path):
    content = section(snapshots(tmp_path, NoCondition(), Plain(40)), "Generated beside real")
    assert [words for _, words in pictures(content)] == ["generated", "real"]
    assert read_rows(tmp_path / "samples").names == (None,) * 4


@pytest.mark.parametrize("known", [True, False])
def test_real_pictures_of_a_row_have_its_class(known, monkeypatch):
    source = Plain(64)
    if known:
        monkeypatch.setattr(source, "known_labels", lambda: [index // 2 % 4 for index in range(64)])
    rows = choose_rows(source, CONDITIONS["class"], 3, 5, seed=1)
    assert rows.names == ("a <b>red</b> fox", "<script>alert(1)</script>", 'cats & "dogs"')
    for label, images in enumerate(rows.real):
        assert images.shape == (5, 3, 16, 16)
        assert {tuple(image[:, -1, -1].tolist()) for image in images} == {COLOURS[label]}
    assert source.reads <= 15 or not known, "labels that are known need no reading"


def test_a_class_without_pictures_has_an_empty_row(tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "LOOKED_AT", 2)  # the first of another class ends the search
    source = Plain(8)
    rows = choose_rows(source, CONDITIONS["class"], 4, 2, seed=0)
    counts = [len(images) for images in rows.real]
    assert sum(counts) == 2
    content = section(snapshots(tmp_path, CONDITIONS["class"], source), "Generated beside real")
    assert content.count("<figcaption>real</figcaption>") == sum(count > 0 for count in counts)


# Copies -----------------------------------------------------------------------------------------------------


def drawn(path, *, noise, generator):
    """A set of noise, and samples that are its first pictures with more noise of this size."""

    class Noise(Plain):
        def _read(self, index):
            rng = torch.Generator().manual_seed(index)
            return Sample(
                torch.randint(0, 256, (3, 16, 16), generator=rng, dtype=torch.uint8), 0, f"n{index}"
            )

    source = Noise(50)
    other = torch.randint(0, 256, (8, 3, 16, 16), generator=generator, dtype=torch.uint8)
    real = torch.stack([source[index].image for index in range(8)])
    samples = (real * (1 - noise) + other * noise).to(torch.uint8)
    near = NearestImages(path, source, SimpleNamespace(name_of=lambda row: f"asked {row}"))
    (path / "samples").mkdir()
    near.on_start(None)
    return near, Snapshot(8, Painter(), Words(), samples=samples)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (0.0, "8 of 8 samples are nearly copies"),
        (0.4, "8 of 8 samples come close"),
        (1.0, "None of these samples is a copy"),
    ],
)
def test_copies_of_training_pictures_show(tmp_path, noise, words):
    near, snapshot = drawn(tmp_path, noise=noise, generator=torch.Generator().manual_seed(99))
    near.on_snapshot(snapshot)
    table = json.loads((tmp_path / "samples" / "nearest.json").read_text())
    if noise < 1:
        assert [row["nearest"][0] for row in table["rows"]] == [f"n{number}" for number in range(8)]
    write_run_report(tmp_path)
    content = section(tmp_path, "Nearest training pictures")
    assert words in content
    assert "among all 50 training pictures" in content


def test_a_large_set_is_compared_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "SECONDS", 0)
    near, snapshot = drawn(tmp_path, noise=1, generator=torch.Generator().manual_seed(0))
    near.on_preview(snapshot)
    write_run_report(tmp_path)
    assert "among 1 of 50 training pictures" in section(tmp_path, "Nearest training pictures")
    monkeypatch.setattr(nearest, "SECONDS", 100)
    near.on_snapshot(snapshot)
    write_run_report(tmp_path)
    assert "among all 50" in section(tmp_path, "Nearest training pictures")


def test_at_most_so_many_training_pictures_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "MOST", 20)
    near, snapshot = drawn(tmp_path, noise=1, generator=torch.Generator().manual_seed(0))
    near.on_snapshot(snapshot)
    write_run_report(tmp_path)
    assert "among 20 of 50" in section(tmp_path, "Nearest training pictures")


def test_the_usual_distance_leaves_a_picture_itself_out():
    images = torch.tensor([0, 10, 40], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    assert usual_distance(reduced(images)) == pytest.approx(10 / 255)
    assert usual_distance(reduced(images[:1])) == 0


# Over time --------------------------------------------------------------------------------------------------


def film(folder):
    with Image.open(folder / "timelapse.webp") as image:
        return getattr(image, "n_frames", 1), image.size


def test_a_film_has_a_frame_per_grid_with_its_moment_below(tmp_path):
    snapshots(tmp_path, NoCondition(), Plain(), moments=(8, 2500, 80_000))
    frames = read_frames(tmp_path)
    assert [frame.kimg for frame in frames] == [0.008, 2.5, 80]
    assert frames[1].caption == "2.5 kimg, 0.0 min"
    assert film(tmp_path) == (3, (3 * 66 + 2, 4 * 66 + 2 + 24))
    content = section(tmp_path, "Samples over time")
    assert re.findall(r">([\d.]+ kimg), 0.0 min</button>", content) == ["0.008 kimg", "2.5 kimg", "80 kimg"]
    below = np.asarray(Image.open(frames[1].path).convert("L"))[-20:]
    assert below.min() < 128 < below.max(), "the caption is in the picture"


def test_a_long_film_keeps_frames_that_are_spread(tmp_path):
    frames = Timelapse(tmp_path, resolution=16)
    (tmp_path / "samples").mkdir()
    frames.on_start(SimpleNamespace(images_seen=0))
    for number in range(100):
        frames._keep(Image.new("RGB", (8, 8)), number + 1.0, 1.5)
    kept = [frame.kimg for frame in read_frames(tmp_path)]
    assert (len(kept), kept[0], kept[-1]) == (MOST_FRAMES, 1, 100)
    assert max(later - earlier for earlier, later in itertools.pairwise(kept)) <= 8
    assert [frame.kimg for frame in spread(read_frames(tmp_path), 3)][::2] == [1, 100]


def test_a_resumed_film_goes_on_from_the_checkpoint(tmp_path):
    snapshots(tmp_path, NoCondition(), Plain(), moments=(8, 16, 24))
    last = read_frames(tmp_path)[1].path
    last.rename(last.with_name("kimg_000000.016_min_00012.5.webp"))
    film_on = Timelapse(tmp_path, resolution=16)
    film_on.on_start(state_of(NoCondition(), images_seen=16))
    assert [frame.kimg for frame in read_frames(tmp_path)] == [0.008, 0.016]
    snapshot = Snapshot(20, Painter(), NoCondition())
    snapshot.grid = torch.zeros(3, 20, 20, dtype=torch.uint8), tmp_path / "grid.png"
    film_on.on_preview(snapshot)
    assert [frame.caption for frame in read_frames(tmp_path)][-1] == "0.02 kimg, 12.5 min"
    assert film(tmp_path)[0] == 3


def test_a_run_from_before_there_were_films_begins_with_its_grids(tmp_path):
    (tmp_path / "samples").mkdir()
    for kimg in ("000000.016", "000000.032", "000099.000"):
        Image.new("RGB", (30, 30)).save(tmp_path / "samples" / f"fakes_{kimg}.png")
    Timelapse(tmp_path, resolution=16).on_start(SimpleNamespace(images_seen=40))
    assert [frame.caption for frame in read_frames(tmp_path)] == ["0.016 kimg", "0.032 kimg"]


# Curves -----------------------------------------------------------------------------------------------------

STATS = [
    {"images": 1000, "skipped_steps": 0, "signs/real": 0.5, "signs/fake": -0.5, "images_per_second": 40.0},
    {"images": 2000, "fd_random_1k_vs_1k": 0.2, "pr_random_1k_recall": 0.3, "variety/samples": 0.5},
    {"images": 2000, "skipped_steps": 0, "signs/real": 0.4, "signs/fake": -0.3, "images_per_second": 41.0},
    {"images": 4000, "fd_random_1k_vs_1k": 0.1, "pr_random_1k_recall": 0.4, "variety/samples": 0.6},
]


def data_of(figure):
    return json.loads(html.unescape(re.search(r'data-chart="([^"]*)"', figure)[1]))


def test_the_curves_that_matter_come_first_and_the_rest_is_folded(tmp_path):
    assert tracked_names(STATS) == ["fd_random_1k_vs_1k", "pr_random_1k_recall"]
    first, others = chosen_curves(STATS)
    assert [curve.title for curve in first] == [
        "fd_random_1k_vs_1k",
        "pr_random_1k_recall",
        "Who is fooled",
        "Scores of the discriminator",
        "Speed",
    ]
    assert [curve.title for curve in others] == ["skipped_steps", "variety/samples"]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in STATS))
    write_run_report(tmp_path)
    content = section(tmp_path, "Curves")
    shown_at = content.index("All other numbers")
    assert content.index("Lower is better") < content.index("Who is fooled") < shown_at
    assert shown_at < content.index("variety/samples")
    assert "Scores of the discriminator" not in content, "nobody measured them"


def test_a_chart_tells_its_values_by_moment():
    figure = chart(Curve("<T>", {"signs/real": "real", "signs/fake": "generated"}, "a & b"), STATS)
    data = data_of(figure)
    assert [one["name"] for one in data["series"]] == ["real", "generated"]
    assert [one["kimg"] for one in data["series"]] == [[1, 2], [1, 2]]
    assert [one["value"] for one in data["series"]] == [[0.5, 0.4], [-0.5, -0.3]]
    assert data["newest"] == "newest: real 0.4, generated -0.3"
    assert "&lt;T&gt;" in figure
    assert "a &amp; b" in figure
    heights = [float(pair.split(",")[1]) for pair in re.search(r'points="([^"]*)"', figure)[1].split()]
    assert heights[0] < heights[1], "a lower value stands lower"


def test_charts_of_odd_numbers():
    def drawn_of(*values):
        stats = [{"images": 1000 * at, "x": value} for at, value in enumerate(values, 1)]
        return chart(Curve("x", {"x": ""}, ""), stats)

    assert drawn_of(1.0) == drawn_of() == drawn_of(float("nan"), 1.0, float("inf")) == ""
    assert data_of(drawn_of(3.0, float("nan"), 3.0))["series"][0]["value"] == [3, 3]
    long = data_of(drawn_of(*map(float, range(1000))))["series"][0]
    assert len(long["value"]) <= 240
    assert (long["kimg"][-1], long["value"][-1]) == (1000, 999)
    assert long["value"][0] == 2.0, "the mean of 0 to 4"
    assert not re.search(r"nan|inf", drawn_of(0.0, 0.0))


# Whole runs -------------------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_at_once_leaves_all_of_it_and_goes_on(tmp_path, tiny_features):
    run = tmp_path / "run"
    with pytest.raises(SystemExit):
        main(tiny_run(run, tiny_features, schedule__max_minutes=1e-9, **LONG))
    assert film(run)[0] == 1
    headings = re.findall(r"<h2>(.*?)</h2>", page_of(run))
    assert headings[:3] == ["Samples over time", "Generated beside real", "Nearest training pictures"]
    assert headings[-1] == "In this folder"
    assert [frame.kimg for frame in read_frames(run)] == [0.008]
    main(tiny_run(run, tiny_features, schedule__kimg=0.024, schedule__snapshot_kimg=0.008))
    assert [frame.kimg for frame in read_frames(run)] == [0.008, 0.016, 0.024]
    assert film(run)[0] == 3
    names = {name for line in read_stats(run / "stats.jsonl") for name in line}
    told = set(MEANINGS) | {"signs/real", "signs/fake", "scores/real", "scores/fake", "images_per_second"}
    assert names - told - {"images"} == set(tracked_names(read_stats(run / "stats.jsonl")))
    assert f"{newest_numbers(read_stats(run / 'stats.jsonl'))['loss/d']:.4g}" in page_of(run)
    for name in re.findall(r'<td><a href="([^"]+)"', section(run, "In this folder")):
        assert (run / name).exists()
