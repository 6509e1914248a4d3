"""What is chosen for which data, machine and minutes; values alone, nothing is opened or trained."""

import pytest

from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.choose import Machine, Speed, choose, rounded, times_of, to_try, worth_trying
from sgxl_t.training.recipe.survey import Survey, shared_words
from sgxl_t.training.recipe.words import duration, found, table

SLOW = {32: Speed(images=100, feature_seconds=60), 64: Speed(images=25, feature_seconds=100)}
FAST = {32: Speed(images=1000), 64: Speed(images=400)}


def data(**known):
    return Survey(**{"pictures": 1000, "smallest": 100, "usual": 128, "median": 128, **known})


def chosen(survey, minutes=60.0, given=None, **machine):
    return choose(survey, Machine(**{"speeds": SLOW, **machine}), minutes, given or {})


@pytest.mark.parametrize(
    ("known", "cond", "because"),
    [
        ({}, "none", "no captions, and no class folders"),
        ({"classes": 4, "per_class": 20}, "class", "4 classes of 20 pictures or more"),
        ({"classes": 4, "per_class": 19}, "none", "some have 19 pictures, fewer than 20"),
        ({"classes": 1, "per_class": 900}, "none", "no class folders"),
        ({"captions": True, "distinct": 400, "shared": 0.9}, "text", "400 different ones"),
        ({"captions": True, "distinct": 400, "shared": 0.2}, "none", "few words in common"),
        ({"captions": True, "distinct": 200, "shared": 0.9, "pictures": 200}, "none", "fewer than 300"),
        (
            {"captions": True, "distinct": 4, "shared": 0.9, "classes": 4, "per_class": 99},
            "class",
            "captions say no more than labels",
        ),
        (
            {"captions": True, "distinct": 40, "shared": 0.9, "classes": 4, "per_class": 99},
            "text",
            "40 different ones",
        ),
    ],
)
def test_the_condition_follows_what_the_data_says(known, cond, because):
    recipe = chosen(data(**known))
    assert (recipe.cond, recipe.settings["cond"]) == (cond, cond)
    assert because in recipe.choices[0].reason


@pytest.mark.parametrize(
    ("usual", "minutes", "speeds", "side", "because"),
    [
        (128, 60, SLOW, 32, "64 px asks for 400 thousand images, and there is time for"),
        (128, 600, SLOW, 64, "the largest for this machine"),
        (128, 60, FAST, 64, "the largest for this machine"),
        (128, 2, FAST, 32, "64 px asks for 400"),
        (63, 60, FAST, 32, "most pictures have 63 px, none is enlarged"),
        (20, 60, {16: Speed(images=500)}, 16, "most pictures have 20 px"),
        (9, 60, {8: Speed(images=500)}, 8, "most pictures have 9 px"),
        (None, 60, FAST, 64, "the largest for this machine"),
    ],
)
def test_the_side_follows_pictures_and_time(usual, minutes, speeds, side, because):
    recipe = chosen(data(usual=usual), minutes, speeds=speeds)
    assert recipe.settings["generator.img_resolution"] == side
    assert because in recipe.choices[1].reason


def test_a_gpu_takes_larger_sides_and_wider_networks():
    speeds = {32: Speed(images=9000), 64: Speed(images=5000), 128: Speed(images=2000), 256: Speed(images=500)}
    survey = data(usual=500)
    recipe = chosen(survey, 60.0, gpu=True, speeds=speeds)
    assert recipe.settings["generator.img_resolution"] == 256
    few = chosen(survey, 8.0, gpu=True, speeds=speeds)
    assert few.settings["generator.img_resolution"] == 128
    assert recipe.settings["generator.stylegan_t.channel_max"] == 512


def test_a_cpu_with_a_published_network_begins_with_the_packaged_model():
    recipe = chosen(data(), published=True)
    assert recipe.settings["start"] == "demo_text"
    assert recipe.settings["optimizer.g_lr"] == rules.START_G_LR < rules.G_LR
    assert recipe.settings["objective.d_alone_kimg"] == rules.START_ALONE_KIMG
    sizes = [key for key in recipe.settings if key.startswith("generator.stylegan_t")]
    assert sizes == [], "the start's"
    assert "features" not in recipe.settings
    assert any(line.startswith("starts from") and "demo_text" in line for line in table(recipe))


def test_captions_and_class_names_are_read_by_the_packaged_model():
    classes = chosen(data(classes=4, per_class=30), published=True)
    captions = chosen(data(captions=True, distinct=400, shared=0.9), published=True)
    for recipe, reads in ((classes, "reads the classes' names"), (captions, "reads the captions")):
        assert recipe.settings["start"] == "demo_text"
        assert any(line.startswith("starts from") and reads in line for line in table(recipe))
    assert captions.settings["objective.clip_weight"] == 0, "its text encoder has no image tower"
    assert "objective.clip_weight" not in classes.settings


@pytest.mark.parametrize(
    ("known", "machine", "given"),
    [
        ({"gray": True}, {}, {}),
        ({}, {}, {"generator.z_dim": 16}),
        ({}, {}, {"discriminator.family": "dino"}),
        ({}, {"published": False}, {}),
        ({}, {"gpu": True}, {}),
    ],
)
def test_without_a_start_a_cpu_trains_networks_of_its_own(known, machine, given):
    recipe = chosen(data(**known), given=given, **{"published": True, **machine})
    assert "start" not in recipe.settings
    assert recipe.settings["optimizer.g_lr"] == rules.G_LR
    beside = machine == {}
    assert recipe.settings.get("features") == ("local" if beside else None)
    asked = chosen(data(**known), given={**given, "features": "pretrained"}, **{"published": True, **machine})
    assert "features" not in asked.settings


def test_only_sides_in_reach_are_tried():
    machine = Machine()
    assert to_try(data(usual=500), machine, {}) == [32, 64]
    assert to_try(data(usual=40), machine, {}) == [32]
    assert to_try(data(usual=20), machine, {}) == [16]
    assert to_try(data(), machine, {"generator.img_resolution": 128}) == [128]
    assert to_try(data(), machine, {"schedule.kimg": 5}) == []
    slow = Machine(speeds={32: SLOW[32]})
    assert worth_trying(32, machine, 1)
    assert not worth_trying(64, slow, 160)
    assert worth_trying(64, slow, 185)


def test_the_length_fits_the_minutes():
    for minutes in (1.0, 10.0, 60.0, 600.0):
        recipe = chosen(data(), minutes, speeds={32: SLOW[32]})
        times, kimg = recipe.times, recipe.settings["schedule.kimg"]
        assert kimg * 1000 / 100 <= times.training <= times.total < minutes * 60
        assert times.total > 0.9 * minutes * 60
        assert recipe.settings["schedule.max_minutes"] == minutes
        assert recipe.settings["schedule.fit_minutes"] is True
        assert recipe.settings["ema.half_life_kimg"] == min(5, rounded(kimg / 10))
        assert kimg / recipe.settings["schedule.snapshot_kimg"] == pytest.approx(12, rel=0.1)
    assert chosen(data(), 1e-9).settings["schedule.kimg"] == 0.032, "one update at least"


def test_reading_takes_from_training_each_time_where_pictures_do_not_stay_in_memory():
    machine = Machine(speeds={32: Speed(images=100)})
    quick = times_of(32, data(), machine, 60)
    once = times_of(32, data(read_seconds=0.1), machine, 60)
    always = times_of(32, data(read_seconds=0.1, streamed=True), machine, 60)
    assert quick.reading == 0
    assert once.reading == pytest.approx(100)
    assert always.training == pytest.approx(quick.training / 11)
    assert quick.total == pytest.approx(once.total)
    assert always.total == pytest.approx(once.total)


def test_features_train_for_a_part_of_the_minutes_or_less_where_they_are_done():
    assert chosen(data()).times.features == 60
    assert chosen(data()).settings["conditioning.feature_seconds"] == 360
    assert chosen(data(), 5.0).times.features == 30
    assert chosen(data(), speeds=FAST).times.features == 0, "none are trained"


def test_what_was_given_wins_and_is_not_chosen():
    given = {
        "cond": "none",
        "generator.img_resolution": 64,
        "schedule.kimg": 500,
        "batch.images": 16,
        "optimizer.g_lr": 0.1,
        "generator.stylegan_t.use_noise": True,
    }
    recipe = chosen(data(classes=5, per_class=99), given=given)
    assert not set(recipe.settings) & set(given)
    assert recipe.cond == "none"
    told = {one.key: (one.value, one.reason) for one in recipe.choices}
    assert told["generator.img_resolution"] == (64, "as given")
    assert told["optimizer.g_lr"] == (0.1, "as given")
    assert recipe.times is None, "the user says how long it is"
    assert "schedule.max_minutes" not in recipe.settings
    assert recipe.settings["schedule.snapshot_kimg"] == 41


def test_a_given_length_alone_says_which_side_it_is_enough_for():
    sides = [
        chosen(data(), given={"schedule.kimg": kimg}).settings["generator.img_resolution"]
        for kimg in (10, 399, 400)
    ]
    assert sides == [32, 32, 64]


def test_a_side_beyond_all_rules_takes_the_widest():
    machine = {"speeds": {512: Speed(images=1)}}
    recipe = chosen(data(usual=600), given={"generator.img_resolution": 512}, **machine)
    assert recipe.settings["generator.stylegan_t.channel_base"] == rules.CPU_SIDES[-1].channel_base


def test_the_rest_follows_count_colours_and_processes():
    few, many = data(pictures=300, gray=True), data(pictures=9000)
    assert chosen(few).settings["discriminator.diff_augment"] == "color,translation,cutout"
    assert chosen(many).settings["discriminator.diff_augment"] == "translation,cutout"
    assert chosen(few).settings["log.track_images"] == 300
    assert chosen(few).settings["generator.img_channels"] == 1
    assert chosen(many).settings["generator.img_channels"] == 3
    assert chosen(many, processes=3).settings["batch.images"] == 33
    assert "data.mirror" not in chosen(many).settings
    large = data(pictures=10**6)
    assert chosen(large).settings["data.num_workers"] == 0
    assert chosen(large, gpu=True).settings["data.num_workers"] > 0


def test_pictures_of_one_class_are_to_differ():
    key = "objective.diversity_weight"
    assert chosen(data(classes=5, per_class=99)).settings[key] == rules.CLASS_DIVERSITY
    assert key not in chosen(data()).settings
    assert key not in chosen(data(classes=5, per_class=99), given={"cond": "none"}).settings
    assert key not in chosen(data(classes=5, per_class=99), given={key: 0.0}).settings


@pytest.mark.parametrize(("count", "words"), [(1, "1 picture is too few"), (7, "7 pictures are too few")])
def test_too_few_pictures_are_refused(count, words):
    with pytest.raises(ValueError, match=f"{words} to learn from: put at least 8"):
        chosen(data(pictures=count))
    assert chosen(data(pictures=count, all_known=False)).cond == "none"


def test_words_in_common_are_those_of_some_pictures_and_not_of_all():
    assert shared_words([f"a{number}" for number in range(50)]) == 0
    assert shared_words(["a cat", "a dog"] * 10) == 1
    assert shared_words(["a picture"] * 20) == 0
    assert shared_words([*["cat"] * 5, *["dog"] * 4, *"bcdefghijk"]) == pytest.approx(5 / 19)
    assert shared_words([]) == 0


def test_the_table_has_a_row_for_each_choice_and_the_time():
    survey = data(classes=3, per_class=50, captions=True, distinct=1200)
    recipe = chosen(survey)
    lines = table(recipe)
    assert len(lines) == len(recipe.choices) + 1
    assert lines[1].split()[:2] == ["condition", "class"]
    words = found("a\x1bb", survey)
    assert words.startswith(r"a\x1bb: 1,000 pictures of about 128 px (the smallest 100 px), 3 classes, 1,200")
    assert duration(recipe).startswith("about 58 min in all: 60 s for feature networks")
    assert duration(chosen(data(), given={"schedule.kimg": 3})) is None
