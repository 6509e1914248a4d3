"""What `auto:` becomes: published networks from a cache or a hub, else local ones, and what is said of it."""

import http.server
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
from hub_stand_in import place
from huggingface_hub import constants
from tiny_models import tiny_folder

from sgxl_t.networks.weights import hub, packaged
from sgxl_t.training.config.auto_networks import AutoNetworks, Use
from sgxl_t.training.config.config_file import parse_config, write_config
from sgxl_t.training.pretrained import choose as choosing
from sgxl_t.training.pretrained.published import PUBLISHED
from sgxl_t.training.pretrained.settle import decide, settle

MOBILENET = "timm:mobilenetv3_small_100.lamb_in1k"
LITE0 = "timm:tf_efficientnet_lite0.in1k"
DINO = "timm:vit_small_patch16_224.dino"
DEIT = "timm:deit_base_distilled_patch16_224.fb_in1k"
B32, L14 = "open_clip:ViT-B-32/openai", "open_clip:ViT-L-14/openai"
REPOSITORIES = {
    MOBILENET: ("timm/mobilenetv3_small_100.lamb_in1k", "model.safetensors"),
    LITE0: ("timm/tf_efficientnet_lite0.in1k", "pytorch_model.bin"),
    DINO: ("timm/vit_small_patch16_224.dino", "model.safetensors"),
    DEIT: ("timm/deit_base_distilled_patch16_224.fb_in1k", "model.safetensors"),
    B32: ("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"),
    L14: ("timm/vit_large_patch14_clip_224.openai", "open_clip_pytorch_model.bin"),
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache without a hub; a function that fills it with names of networks."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(packaged, "OF_TIMM", {})
    hub.hub_trouble.cache_clear()
    yield lambda *references: [place(folder, *REPOSITORIES[one], b"weights") for one in references]
    hub.hub_trouble.cache_clear()


def configured(*arguments, cond="none", data="photos"):
    return parse_config(["--cond", cond, "--data", data, *arguments])


def chosen(config, folder, processor="cpu", **options):
    """The configuration that a run would train, and the sentence."""
    networks, words = decide(config.network_settings(), config.to_dict(), folder, processor, **options)
    return config.with_networks(networks), words


def test_a_cache_gives_small_networks_on_a_cpu_and_the_papers_on_a_gpu(cache, tmp_path):
    cache(MOBILENET, LITE0, DINO, DEIT)
    config = configured("--discriminator.features", "['auto:vit', 'auto:cnn']")
    small, words = chosen(config, tmp_path / "run")
    assert small.discriminator.features == (DINO, LITE0)
    assert small.discriminator.projected.input_size == 64
    assert small.features == "pretrained"
    assert words == (
        f"feature networks: {DINO} (in the hub's cache) for auto:vit; {LITE0} (in the hub's cache) for "
        "auto:cnn; the discriminator's see images of 64 px"
    )
    large, _ = chosen(config, tmp_path / "run", "gpu")
    assert large.discriminator.features == (DEIT, LITE0)
    assert large.discriminator.projected.input_size == 224


def test_class_tables_are_made_by_published_networks_and_classifiers_never(cache, tmp_path):
    cache(MOBILENET, LITE0)
    config, _ = chosen(configured("--objective.cls_weight", "0.1", cond="class"), tmp_path / "run")
    named = config.conditioning
    assert (named.class_features, named.classifier) == (MOBILENET, "auto:cnn")
    assert config.discriminator.projected.input_size == 64


def test_what_a_run_does_not_use_stays_as_it_is(cache, tmp_path):
    cache(*REPOSITORIES)
    config, _ = chosen(configured(), tmp_path / "run")
    assert config.conditioning == configured().conditioning


def test_the_dino_family_sees_the_side_that_the_machine_can_afford(cache, tmp_path):
    cache(DINO)
    words = ("--discriminator.family", "dino", "--discriminator.features", "['auto:vit']")
    for processor, side in (("cpu", 96), ("gpu", None)):
        config, _ = chosen(configured(*words), tmp_path / "run", processor)
        assert (config.discriminator.features, config.discriminator.dino.input_size) == ((DINO,), side)
        assert config.discriminator.projected.input_size is None
    config, _ = chosen(configured(*words, "--discriminator.dino.input_size", "64"), tmp_path / "run")
    assert config.discriminator.dino.input_size == 64


@pytest.mark.parametrize(("given", "side"), [("48", 48), ("null", None), ("auto", 64)])
def test_an_input_size_that_is_given_stays(given, side, cache, tmp_path):
    cache(MOBILENET, LITE0)
    config, _ = chosen(configured("--discriminator.projected.input_size", given), tmp_path / "run")
    assert config.discriminator.features == (LITE0,)
    assert config.discriminator.projected.input_size == side


def test_captions_are_read_by_a_published_clip_where_guidance_can_be_afforded(cache, tmp_path):
    cache(MOBILENET, LITE0, B32, L14)
    config, words = chosen(configured(cond="text"), tmp_path / "run")
    assert config.conditioning.text_encoder == "auto:clip"
    assert config.discriminator.features == (LITE0,)
    assert config.features == "local", "the same file again trains the same CLIP"
    assert f"auto:clip trained on the run's own images, as guidance by {B32} is too slow for a CPU" in words
    for further in (["--objective.clip_weight", "0"], ["--features", "pretrained"]):
        config, _ = chosen(configured(*further, cond="text"), tmp_path / "run")
        assert config.conditioning.text_encoder == B32
    config, _ = chosen(configured(cond="text"), tmp_path / "run", "gpu")
    assert config.conditioning.text_encoder == L14
    joined = configured("--conditioning.text_encoder", "auto:clip+transformers:t5", cond="text")
    config, _ = chosen(joined, tmp_path / "run", "gpu")
    assert config.conditioning.text_encoder == f"{L14}+transformers:t5"


def test_stages_that_name_features_of_their_own_get_the_same(cache, tmp_path):
    cache(MOBILENET, LITE0)
    stages = (
        "[{resolution: 16}, {resolution: 32, overrides: {discriminator: {features: ['auto:cnn']}, seed: 3}},"
        "{resolution: 64, overrides: {'discriminator.features': ['random:small_cnn', 'auto:cnn']}}]"
    )
    config, _ = chosen(configured("--stages", stages), tmp_path / "run")
    _, second, third = (stage.overrides for stage in config.stages)
    assert second == {"discriminator.features": [LITE0], "seed": 3}
    assert third == {"discriminator.features": ["random:small_cnn", LITE0]}


@pytest.mark.parametrize("data", ["digits", "emoji-scenes:4x4"])
def test_sets_of_the_package_keep_local_networks_unless_others_are_asked_for(data, cache, tmp_path):
    cache(MOBILENET, LITE0)
    config, words = chosen(configured(data=data), tmp_path / "run")
    assert (config.discriminator.features, config.features) == (("auto:cnn",), "local")
    assert f"the settings for {data} are made for them" in words
    config, _ = chosen(configured("--features", "pretrained", data=data), tmp_path / "run")
    assert config.discriminator.features == (LITE0,)


def test_local_is_as_without_a_hub_and_says_nothing(cache, tmp_path):
    without, words = chosen(configured(), tmp_path / "run")
    assert words == (
        f"feature networks: auto:cnn trained on the run's own images, as {LITE0} is not in the hub's "
        "cache and HF_HUB_OFFLINE is set"
    )
    cache(MOBILENET, LITE0)
    local, words = chosen(configured("--features", "local"), tmp_path / "run")
    assert words is None
    assert local == without
    assert without == replace(configured("--discriminator.projected.input_size", "null"), features="local")


def test_pretrained_is_refused_where_it_cannot_be_had(cache, tmp_path):
    with pytest.raises(ValueError, match="features=pretrained needs published") as caught:
        chosen(configured("--features", "pretrained"), tmp_path / "run")
    said = str(caught.value)
    assert "\n" not in said
    for part in (LITE0, "HF_HUB_OFFLINE is set", "HF_HOME", "--features local"):
        assert part in said


def test_a_blob_that_is_missing_is_no_cached_network(cache, tmp_path):
    (link,) = cache(LITE0)
    link.resolve().unlink()
    config, _ = chosen(configured(), tmp_path / "run")
    assert config.discriminator.features == ("auto:cnn",)


def test_a_kind_that_there_is_not_is_left_to_be_refused_by_its_name(cache, tmp_path):
    cache(MOBILENET, LITE0)
    config, _ = chosen(configured("--discriminator.features", "['auto:cnnn']"), tmp_path / "run")
    assert config.discriminator.features == ("auto:cnnn",)


# Runs that have begun ------------------------------------------------------------------------------------


def write_run(folder, config, *, begun=True, without=()):
    """A run folder as far as its configuration goes. without: keys that earlier versions did not have."""
    folder.mkdir(parents=True)
    values = {key: value for key, value in config.to_dict().items() if key not in without}
    if begun:
        checkpoint = folder / "checkpoints" / "kimg_0000000.016"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"config": values}))
    write_config(values, folder / "config.yaml")


STAGES = "[{resolution: 16, overrides: {discriminator.features: ['auto:vit', 'auto:cnn']}}, {resolution: 32}]"


def test_a_run_that_has_begun_keeps_its_networks_on_other_machines(cache, tmp_path):
    cache(MOBILENET, DINO)
    config = configured("--stages", STAGES, cond="class")
    began, _ = chosen(config, tmp_path / "run")
    write_run(tmp_path / "run", began, begun=False)
    (tmp_path / "run" / "stage_016" / "checkpoints" / "kimg_0000000.016").mkdir(parents=True)
    cache(LITE0, DEIT)
    for processor in ("cpu", "gpu"):
        again, words = chosen(config, tmp_path / "run", processor)
        assert again == began
        assert words.endswith("as the run began")
    with pytest.raises(ValueError, match=r"features=local, but the run in .* learns through"):
        chosen(replace(config, features="local"), tmp_path / "run")
    assert chosen(began, tmp_path / "elsewhere", "gpu") == (began, None), "its config.yaml says all"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("without", [(), ("features",)])
def test_a_run_that_has_trained_its_own_networks_keeps_them(begun, without, cache, tmp_path):
    began, _ = chosen(configured(), tmp_path / "run")
    assert began.discriminator.features == ("auto:cnn",)
    write_run(tmp_path / "run", began, begun=begun, without=without)
    cache(MOBILENET, LITE0)
    assert chosen(configured(), tmp_path / "run") == (began, None)
    wanted = configured("--features", "pretrained")
    if begun:
        with pytest.raises(ValueError, match=r"has trained networks of its own for auto:cnn: leave"):
            chosen(wanted, tmp_path / "run")
    else:
        assert chosen(wanted, tmp_path / "run")[0].discriminator.features == (LITE0,)


def test_a_checkpoint_tells_as_well(cache, tmp_path):
    cache(MOBILENET, LITE0)
    began, _ = chosen(configured(), tmp_path / "run")
    write_run(tmp_path / "run", began)
    (tmp_path / "run" / "config.yaml").unlink()
    assert chosen(configured(), tmp_path / "run", "gpu")[0] == began


@pytest.mark.parametrize("content", ["", "discriminator: 3", "[", "cond: none", "\0"])
def test_a_stored_configuration_that_says_nothing_is_none(content, cache, tmp_path):
    cache(MOBILENET, LITE0)
    (tmp_path / "config.yaml").write_text(content)
    assert chosen(configured(), tmp_path)[0].discriminator.features == (LITE0,)


def test_a_run_that_starts_from_another_looks_through_its_networks(cache, tmp_path):
    write_run(tmp_path / "own", chosen(configured(), tmp_path / "own")[0])
    cache(MOBILENET, LITE0)
    write_run(tmp_path / "published", chosen(configured(), tmp_path / "published")[0])
    found = {
        name: chosen(replace(configured(), start=str(tmp_path / name)), tmp_path / "run", "gpu")[0]
        for name in ("own", "published")
    }
    assert found["own"].discriminator.features == ("auto:cnn",)
    assert found["published"].discriminator.features == (LITE0,)
    assert found["published"].discriminator.projected.input_size == 64


def test_a_run_that_starts_from_a_text_model_reads_captions_as_wide_as_that(cache, tmp_path):
    cache(LITE0, L14)
    start = tiny_folder(tmp_path / "model", "text")
    config, words = chosen(configured("--start", str(start), cond="text"), tmp_path / "run", "gpu")
    assert config.conditioning.text_encoder == "auto:clip"
    assert config.discriminator.features == (LITE0,)
    assert f"start={start} is a model" in words


# The hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def online(cache, monkeypatch):
    """A function that sets the hub's address."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.4)
    return lambda port: monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


def quickly(*arguments):
    before = time.monotonic()
    found = chosen(*arguments)
    assert time.monotonic() - before < 3
    return found


def test_a_hub_that_accepts_and_never_answers_is_not_waited_for(online, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        online(silent.getsockname()[1])
        config, words = quickly(configured(), tmp_path / "run")
    assert config.discriminator.features == ("auto:cnn",)
    assert "does not answer within 0.4 seconds" in words


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(online, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "_ask", lambda: time.sleep(5))
    config, words = quickly(configured(), tmp_path / "run")
    assert config.discriminator.features == ("auto:cnn",)
    assert "does not answer within" in words


def test_the_question_as_a_whole_takes_less_than_five_seconds():
    assert hub.PROBE_SECONDS < 5


def test_a_port_where_nobody_listens_is_told_at_once(online, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    online(port)
    _, words = quickly(configured(), tmp_path / "run")
    assert f"http://127.0.0.1:{port} cannot be reached" in words


@pytest.fixture
def answering(online):
    """A function that starts a hub with one answer to everything."""
    servers = []

    def start(code):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(code)
                self.end_headers()

            def do_GET(self):
                self.do_HEAD()

            def log_message(self, *words):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        online(servers[-1].server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("code", [407, 502])
def test_a_proxy_that_lets_nobody_through_is_no_hub(code, answering, tmp_path):
    answering(code)
    _, words = quickly(configured(), tmp_path / "run")
    assert f"answers with error {code}" in words


def test_an_estimate_trusts_a_hub_that_answers_and_fetches_nothing(answering, monkeypatch, tmp_path):
    answering(200)
    monkeypatch.setattr(choosing, "_fetch", lambda *_, **__: pytest.fail("fetched"))
    config, words = chosen(configured(), tmp_path / "run", fetch=False)
    assert config.discriminator.features == (LITE0,)
    assert f"(from {constants.ENDPOINT})" in words


def test_a_download_that_breaks_off_leaves_auto_with_local_networks(answering, monkeypatch, tmp_path):
    answering(200)
    asked = []

    def broken(reference, use, *, images):
        asked.append(reference)
        raise OSError("connection lost")

    monkeypatch.setattr(choosing, "_fetch", broken)
    config, words = chosen(configured(cond="class"), tmp_path / "run")
    assert config.discriminator.features == ("auto:cnn",)
    assert "could not be fetched from http" in words
    assert asked == [LITE0, MOBILENET]
    with pytest.raises(ValueError, match="could not be fetched"):
        chosen(configured("--features", "pretrained"), tmp_path / "run")


# Processes -----------------------------------------------------------------------------------------------


class OtherProcess:
    """A runtime that is not the main one; what the main process found comes from there."""

    is_main = False
    found = AutoNetworks({Use("projected", "cnn"): LITE0}, 224, "pretrained")

    def any(self, flag):
        return flag

    def gather_objects(self, value):
        return [self.found, value]


def test_other_processes_ask_nobody_and_take_what_the_main_one_found(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("sgxl_t.training.pretrained.settle.decide", lambda *_: pytest.fail("decided"))
    config = configured()
    found = settle(config.network_settings(), config.to_dict(), tmp_path / "run", OtherProcess())
    assert found == OtherProcess.found


@pytest.mark.parametrize("processor", PUBLISHED)
def test_every_network_of_the_table_has_weights_on_the_hub(processor):
    from sgxl_t.networks.frozen import SCHEMES

    for network in PUBLISHED[processor].values():
        scheme, _, name = network.reference.partition(":")
        assert SCHEMES[scheme].hub(name).repository.startswith("timm/")
