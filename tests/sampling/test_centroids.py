"""Multi-modal truncation: the clustering, the centres of models, the file, and pictures made with them."""

import pytest
import torch
from tiny_models import tiny_folder, tiny_model

from sgxl_t.ops.random import latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.truncation.centroids import (
    compute_centroids,
    free_width,
    load_centroids,
    save_centroids,
)
from sgxl_t.sampling.truncation.kmeans import assign, kmeans
from sgxl_t.sampling.truncation.truncation import global_center, truncated_styles


def blobs(count=6, each=80, spread=0.1):
    rng = torch.Generator().manual_seed(4)
    middles = torch.randn(count, 8, generator=rng) * 4
    return middles, torch.cat([m + spread * torch.randn(each, 8, generator=rng) for m in middles])


def test_kmeans_finds_groups_that_lie_apart():
    middles, points = blobs()
    found = kmeans(points, 6, seed=0)
    nearest, squares = assign(middles, found.centres)
    assert nearest.unique().numel() == 6
    assert squares.max() < 0.1**2
    assert found.mean_square == pytest.approx(8 * 0.1**2, rel=0.1)


def test_kmeans_is_as_good_as_the_one_of_scikit_learn():
    from sklearn.cluster import KMeans

    points = torch.randn(1500, 6, generator=torch.Generator().manual_seed(1))
    ours = kmeans(points, 12, seed=3)
    theirs = KMeans(12, n_init=1, random_state=3).fit(points.numpy())
    assert ours.mean_square * len(points) < 1.03 * theirs.inertia_
    # Their algorithm started from our result has nothing left to do.
    again = KMeans(12, init=ours.centres.numpy(), n_init=1).fit(points.numpy())
    assert ours.mean_square * len(points) < 1.002 * again.inertia_


def test_kmeans_repeats_itself_and_fills_every_centre():
    _, points = blobs(3)
    first, second = kmeans(points, 20, seed=5), kmeans(points, 20, seed=5)
    assert torch.equal(first.centres, second.centres)
    assert not torch.equal(first.centres, kmeans(points, 20, seed=6).centres)
    assert assign(points, first.centres)[0].unique().numel() == 20
    with pytest.raises(ValueError, match="241 centres of 240 points are not possible"):
        kmeans(points, 241, seed=0)


def test_as_many_centres_as_points_leave_no_distance_even_with_equal_points():
    points = torch.tensor([[0.0, 0], [3, 0], [0, 4]]).repeat(2, 1)
    assert kmeans(points, 4, seed=0).mean_square == 0


@pytest.mark.parametrize(
    ("kind", "name"), [("class", "sgxl-tiny-16"), ("none", "sgxl-tiny-16"), ("text", "sgt-tiny-16")]
)
def test_truncation_to_zero_gives_the_nearest_centre(kind, name):
    generator, condition = tiny_model(kind, name)
    centroids = compute_centroids(generator, 8, seed=2)
    z = latents(range(20), generator.z_dim)
    request = {"class": [1] * 20, "text": ["a red fox"] * 20, "none": [None] * 20}[kind]
    c = condition.encode(request).c
    ws = generator.mapping(z, c)
    pulled = truncated_styles(generator, z, c, psi=0.0, truncation="centroid", centroids=centroids)
    width = free_width(generator)
    squares = (ws[:, 0, None, :width] - centroids.vectors).square().sum(dim=2)
    torch.testing.assert_close(pulled[:, 0, :width], centroids.vectors[squares.argmin(dim=1)])
    assert torch.equal(pulled[:, 0, width:], ws[:, 0, width:]), "the condition stays whole"
    assert pulled[:, 0].unique(dim=0).shape[0] > 1, "one centre for all would be no multi-modal truncation"
    half = truncated_styles(generator, z, c, psi=0.5, cutoff=1, truncation="centroid", centroids=centroids)
    torch.testing.assert_close(half[:, 0], (ws[:, 0] + pulled[:, 0]) / 2)
    assert torch.equal(half[:, 1:], ws[:, 1:])


def test_centres_of_a_class_serve_that_class_alone():
    generator, _ = tiny_model("class", "sgxl-tiny-16")
    centroids = compute_centroids(generator, 3, by="class", draws=90)
    assert centroids.classes.tolist() == [label for label in range(4) for _ in range(3)]
    c = torch.tensor([2, 0, 2, 3])
    z = latents([1, 2, 3, 4], generator.z_dim)
    pulled = truncated_styles(generator, z, c, psi=0.0, truncation="centroid", centroids=centroids)[:, 0]
    for row, label in zip(pulled, c, strict=True):
        own = centroids.vectors[centroids.classes == label]
        assert (own - row).abs().amax(dim=1).min() < 1e-6
    single = compute_centroids(generator, 1, by="class", draws=200, seed=7)
    w = generator.mapping(
        torch.randn(200, generator.z_dim, generator=torch.Generator().manual_seed(9)), torch.full((200,), 2)
    )[:, 0]
    torch.testing.assert_close(single.vectors[2], kmeans(w, 1, seed=0).centres[0])


def test_global_truncation_pulls_to_the_mean_of_the_class_averages():
    generator, _ = tiny_model("class", "sgxl-tiny-16")
    z, c = latents([1, 2], generator.z_dim), torch.tensor([0, 3])
    pulled = truncated_styles(generator, z, c, psi=0.0, truncation="global")
    torch.testing.assert_close(pulled[0], generator.mapping.w_avg.mean(dim=0).expand(generator.num_ws, -1))
    assert torch.equal(pulled[0], pulled[1])
    other, _ = tiny_model("class", "sgt-tiny-16")
    assert global_center(other).shape == (free_width(other),)
    same = truncated_styles(other, latents([1, 2], other.z_dim), c, psi=0.3, truncation="global")
    torch.testing.assert_close(same, other.mapping(latents([1, 2], other.z_dim), c, truncation_psi=0.3))


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "m", "class", "sgxl-tiny-16")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_centres_travel_with_the_model(folder, tmp_path, dtype):
    pipe = Pipeline.from_pretrained(folder, device="cpu")
    save_centroids(folder, compute_centroids(pipe.generator, 2, by="class", draws=20), pipe.generator)
    copy = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "copy", dtype=dtype), device="cpu")
    assert torch.equal(copy.centroids.vectors, pipe.centroids.vectors)
    assert torch.equal(copy.centroids.classes, pipe.centroids.classes)
    pipe.save_pretrained(folder)
    assert load_centroids(folder, pipe.generator).facts == pipe.centroids.facts


def test_truncation_without_its_centre_is_one_sentence(folder):
    pipe = Pipeline.from_pretrained(folder, device="cpu")
    with pytest.raises(ValueError, match="make them with `sgxl-t centroids MODEL`"):
        pipe("fox", psi=0.7, truncation="centroid")
    with pytest.raises(ValueError, match="truncation 'middle' is unknown"):
        pipe("fox", truncation="middle")
    text = Pipeline(*tiny_model("text", "sgxl-tiny-16"), device="cpu")
    with pytest.raises(ValueError, match="keeps no average over all prompts"):
        text("a red fox", psi=0.7, truncation="global")
