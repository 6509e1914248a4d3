"""Every generator, discriminator and condition together: builds, trains two updates, samples."""

from itertools import product

import pytest
from tiny_runs import tiny_run

from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.train import main

ASKED = {"class": 3, "text": "a red fox in snow", "none": None}


@pytest.mark.parametrize(
    ("cond", "generator", "discriminator"),
    list(product(("class", "text", "none"), ("stylegan3", "stylegan_t"), ("projected", "dino"))),
)
def test_combination_trains_two_updates_and_samples(cond, generator, discriminator, tmp_path, tiny_features):
    main(
        tiny_run(tmp_path / "run", tiny_features, cond=cond, generator=generator, discriminator=discriminator)
    )
    pipe = Pipeline.from_pretrained(tmp_path / "run" / "best", device="cpu")
    pictures = pipe(ASKED[cond], seeds=[0, 1])
    assert [picture.size for picture in pictures.images] == [(16, 16)] * 2
    assert pictures.images[0].tobytes() != pictures.images[1].tobytes()
