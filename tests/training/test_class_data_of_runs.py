"""Class tables from files in whole runs, and labels that end a run before anything is trained."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.datasets.open import open_source
from sgxl_t.training.build import build_parts
from sgxl_t.training.checks import check_source, open_checked
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train import main


def labelled(place, labels, **more):
    place.mkdir()
    rows = []
    for number, label in enumerate(labels):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(place / f"{number}.png")
        rows.append([f"{number}.png", label])
    (place / "dataset.json").write_text(json.dumps({"labels": rows, **more}))
    return place


def parts_of(folder, features, **settings):
    arguments = tiny_run(
        folder, features, generator="stylegan3", conditioning__class_features="auto:cnn", **settings
    )
    config = parse_config(arguments)
    settings, runtime = config.network_settings(), Runtime(deterministic=False)
    source = open_checked(settings, config.data, config.log, config.to_dict(), folder, runtime)
    return build_parts(settings, config.data.source, source, folder, runtime, progress=False)


def test_a_table_from_a_file_starts_both_networks_and_trains_no_features(tmp_path, tiny_features):
    table = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "t.npy", table.numpy())
    parts = parts_of(tmp_path / "run", tiny_features, conditioning__class_table=tmp_path / "t.npy")
    assert torch.equal(parts.generator.mapping.embed.weight.detach(), table)
    tables = [
        value for name, value in parts.discriminator.heads.named_parameters() if name.endswith("embed.weight")
    ]
    assert tables
    assert all(torch.equal(value.detach(), table) for value in tables)
    assert not (tmp_path / "run" / "features").exists()


@pytest.mark.parametrize(
    ("labels", "settings", "sentence"),
    [
        ([0, 2, 2], {}, "has no picture of class 1"),
        ([0, 0, 0], {}, "has 1 class"),
        ([0, 1, -5], {}, "is -5, and classes"),
        ([0, 19_999], {}, "has 20000 classes, more than 10000"),
        ([0, 1, 1], {"conditioning__class_table": "none.npy"}, "none.npy is no file"),
    ],
)
def test_bad_labels_and_tables_end_a_run_before_features_are_trained(
    tmp_path, tiny_features, labels, settings, sentence
):
    place = labelled(tmp_path / "d", labels)
    with pytest.raises(ValueError, match=sentence):
        parts_of(tmp_path / "run", tiny_features, data__source=place, **settings)
    assert not (tmp_path / "run").exists()


def test_a_named_class_without_pictures_ends_a_run_as_well(tmp_path, tiny_features):
    place = labelled(tmp_path / "d", [0, 1, 0], class_names=["fox", "dog", "car"])
    with pytest.raises(ValueError, match=r"has no picture of class 2 \(car\)"):
        parts_of(tmp_path / "run", tiny_features, data__source=place)
    assert not (tmp_path / "run").exists()


def test_a_classifier_of_other_classes_guides_no_run(tmp_path, tiny_features, capsys):
    place = labelled(tmp_path / "d", [0, 1, 2])
    settings = {"data__source": place, "objective__cls_weight": 1, "discriminator__features": "[auto:cnn]"}
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, **settings))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert f"classifier=local:{tiny_features / 'cnn'} tells 10 classes apart and {place} has 3" in error
    assert not (tmp_path / "run" / "features").exists()


@pytest.mark.parametrize("settings", [{"objective__cls_weight": 0}, {"data__source": "digits"}])
def test_a_classifier_that_fits_or_does_not_guide_passes(tmp_path, tiny_features, settings):
    place = labelled(tmp_path / "d", [0, 1, 2])
    named = {"data__source": place, "objective__cls_weight": 1, **settings}
    config = parse_config(tiny_run(tmp_path / "run", tiny_features, **named))
    source = open_source(config.data.source, resolution=16)
    check_source(config.network_settings(), config.data, config.log, source)
