import numpy as np
import pytest
import torch
from tiny_models import tiny_folder, tiny_model

import sgxl_t
from sgxl_t.ops.device import choose_device
from sgxl_t.ops.random import latents
from sgxl_t.sampling.pipeline import Pipeline

NAMES = ("sgt-tiny-16", "sgxl-tiny-16")
REQUESTS = {"class": ["dog", "fox"], "text": ["a red fox", "a blue car"], "none": None}


def pixels(pictures):
    return np.stack([np.asarray(image) for image in pictures.images]).astype(int)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models") / "text", "text")


def test_the_package_offers_the_pipeline_by_name(text_folder):
    pipe = sgxl_t.Pipeline.from_pretrained(text_folder)
    image = pipe("a red fox in snow", seed=1, psi=0.7).images[0]
    assert (image.mode, image.size) == ("RGB", (16, 16))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", REQUESTS)
def test_every_condition_gets_one_picture_per_seed_in_order(kind, name):
    made = Pipeline(*tiny_model(kind, name))(REQUESTS[kind], seeds=[4, 2], psi=0.8, cutoff=2)
    labels = {"class": ["dog", "fox"], "text": ["a red fox", "a blue car"], "none": ["picture"]}[kind]
    assert made.conditions == [label for label in labels for _ in range(2)]
    assert made.seeds == [4, 2] * len(labels)
    assert len(made.images) == 2 * len(labels)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_bytes_twice(tmp_path, name):
    folder = tiny_folder(tmp_path / "m", "text", name)
    pipes = [Pipeline.from_pretrained(folder) for _ in range(2)]
    first, second = (pixels(pipe("a red fox", seeds=[0, 1])) for pipe in pipes)
    assert (first == second).all()
    assert (pixels(pipes[0]("a red fox", seeds=[0, 1])) == first).all()
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", REQUESTS)
def test_batch_size_changes_no_picture_beyond_rounding(kind, name):
    pipe = Pipeline(*tiny_model(kind, name))
    whole = pixels(pipe(REQUESTS[kind], seeds=range(3), psi=0.7))
    for batch_size in (1, 2):
        parts = pixels(pipe(REQUESTS[kind], seeds=range(3), psi=0.7, batch_size=batch_size))
        assert np.abs(parts - whole).max() <= 1


def test_latents_belong_to_their_seed_alone():
    assert torch.equal(latents([5, 9, 2], 64)[1:], latents([9, 2], 64))
    drawn = latents(range(400), 64)
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02


def test_sampling_neither_reads_nor_moves_the_global_random_state():
    pipe = Pipeline(*tiny_model("text"))
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = pixels(pipe("a red fox"))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert (pixels(pipe("a red fox")) == first).all()


@pytest.mark.parametrize("name", NAMES)
def test_psi_zero_gives_one_picture_per_class_for_all_seeds(name):
    made = pixels(Pipeline(*tiny_model("class", name))(["dog", "fox"], seeds=[1, 2], psi=0))
    assert np.abs(made[0] - made[1]).max() <= 1
    assert np.abs(made[0] - made[2]).max() > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["class", "text"])
def test_each_condition_may_have_a_psi_of_its_own(kind, name):
    pipe = Pipeline(*tiny_model(kind, name))
    made = pipe(REQUESTS[kind], seeds=[1, 2], psi=[0.3, 1])
    assert made.psis == [0.3, 0.3, 1, 1]
    for number, psi in enumerate((0.3, 1)):
        alone = pixels(pipe(REQUESTS[kind][number], seeds=[1, 2], psi=psi))
        assert np.abs(pixels(made)[2 * number : 2 * number + 2] - alone).max() <= 1
    assert np.abs(pixels(made)[:2] - pixels(pipe(REQUESTS[kind][0], seeds=[1, 2]))).max() > 1


def test_cutoff_truncates_only_the_first_styles():
    pipe = Pipeline(*tiny_model("class"))
    full, none = pixels(pipe("dog", seed=3)), pixels(pipe("dog", seed=3, psi=0, cutoff=0))
    assert (full == none).all()
    assert (pixels(pipe("dog", seed=3, psi=0, cutoff=2)) != full).any()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_makes_nearly_the_same_picture(name, precision):
    model = tiny_model("class", name)
    exact = pixels(Pipeline(*model)("dog", seeds=range(4)))
    rough = pixels(Pipeline(*model, precision=precision)("dog", seeds=range(4)))
    assert np.abs(rough - exact).mean() < 4


def test_words_that_change_no_picture_are_warned_of_once(caplog):
    pipe = Pipeline(*tiny_model("text"), device="cpu")
    for _ in range(2):
        pipe("a " * 10 + "fox", mix="a zebra", layers="1")
    assert caplog.messages == [
        "no caption that the model learnt from says: zebra",
        'only the first 10 words of "a a a a a a a a a a fox" were read, which is the context of 12 tokens; '
        'not read: "fox"',
    ]
    pipe.interpolate(["a fox", "a " * 10 + "dog"], frames=0)
    assert caplog.messages[2].endswith('not read: "dog"')


def test_saved_pipeline_comes_back_with_what_was_known(tmp_path, text_folder):
    pipe = Pipeline.from_pretrained(text_folder)
    again = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "copy", data="other"))
    assert (pixels(again("a red fox")) == pixels(pipe("a red fox"))).all()
    assert again.info.provenance == {"data": "other", "seed": 1, "licence": "cc0-1.0"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"psi": float("nan")}, "psi=nan"),
        ({"seed": -1}, "seed -1"),
        ({"seeds": []}, "there is no seed"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"cutoff": 99}, "cutoff=99"),
        ({"psi": [0.5, 0.7]}, "2 psi came with 1 conditions: give one for all, or one each"),
        ({"mix": "fox"}, "a mix takes a second prompt or class and its layers: give both, layers from 0 to"),
        ({"layers": [1]}, "give both, layers from 0 to"),
        ({"mix": "fox", "layers": "3-99"}, "layers 3-99 do not fit: the model has 0 to"),
        ({"mix": "fox", "layers": []}, "layers none do not fit"),
        ({"mix": ["fox", "car"], "layers": "1"}, "a mix takes one more prompt or class, not 2"),
        ({"best_of": 0}, "best_of=0 is out of range"),
        ({"best_of": 2}, "this is a class model: leave best-of out"),
        ({"conditions": 7}, "class 7 does not exist"),
        ({"conditions": "dgo"}, "did you mean dog"),
    ],
)
def test_wrong_requests_are_one_sentence(wrong, sentence):
    pipe = Pipeline(*tiny_model("class"))
    with pytest.raises(ValueError, match=sentence):
        pipe(**({"conditions": "dog"} | wrong))


def test_device_or_precision_that_is_not_there_is_one_sentence():
    for name in ("cuda:77", "abacus", "meta:x"):
        with pytest.raises(ValueError, match=f"device '{name}' is not available"):
            choose_device(name)
    with pytest.raises(ValueError, match="precision 'fp8' is unknown"):
        Pipeline(*tiny_model("none"), precision="fp8")


def test_hub_id_without_a_hub_is_one_sentence(monkeypatch):
    monkeypatch.setattr("sgxl_t.networks.weights.hub.hub_reachable", lambda: False)
    with pytest.raises(ValueError, match="not a folder here and could not be fetched from the Hub"):
        Pipeline.from_pretrained("nobody/no-such-model")
    with pytest.raises(ValueError, match="is not a folder: name a model folder"):
        Pipeline.from_pretrained("../no/such/folder")


def test_hub_id_is_fetched_once_reachable(monkeypatch, text_folder):
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(text_folder)

    monkeypatch.setattr("sgxl_t.networks.weights.hub.hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert len(Pipeline.from_pretrained("owner/foxes")("a red fox").images) == 1
    assert asked["repository"] == "owner/foxes"
    assert not any("pkl" in pattern or pattern == "*" for pattern in asked["allow_patterns"])


def test_push_uploads_the_model_folder(monkeypatch, text_folder):
    uploaded = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repository, **_):
            return f"https://hub.example/{repository}"

        def upload_folder(self, *, repo_id, folder_path):
            uploaded.extend(sorted(path.name for path in folder_path.iterdir()))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    address = Pipeline.from_pretrained(text_folder).push_to_hub("owner/foxes")
    assert address == "https://hub.example/owner/foxes"
    assert uploaded == ["README.md", "config.json", "generator.safetensors", "text_encoder"]
