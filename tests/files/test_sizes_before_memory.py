"""Files that ask for more memory than what lies beside them: refused before any of it is taken."""

import json
import os
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_clip, tiny_folder
from tiny_text_towers import register, shrunken, siglip_folder, t5_folder, write_tokenizer

from sgxl_t.conditioning.class_names import ClassNames
from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.files.memory import MemoryShortError, is_out_of_memory, taking_memory
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallCNNConfig,
    SmallViT,
    SmallViTConfig,
    load_local,
    save_local,
)
from sgxl_t.networks.frozen import load_clip, load_stored_text, load_text_encoder
from sgxl_t.networks.text.text_encoder import JoinedEncoders
from sgxl_t.networks.weights.stored_tensors import MAX_HEADER, opened, stored_shapes

SPARE = 256 * 2**20
"""Bytes that a refusal may take; what the files below ask for begins at gibibytes."""


def change(path, *keys, **values):
    """Sets values in a group of a JSON file."""
    content = json.loads(path.read_text())
    group = content
    for key in keys:
        group = group[key]
    group.update(values)
    path.write_text(json.dumps(content))


def refused(load, sentence):
    """`load` ends in one sentence and has not taken memory for what it was asked to build."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=sentence) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < SPARE
    return str(caught.value)


def test_a_text_tower_larger_than_its_tensors(tmp_path):
    folder = tiny_folder(tmp_path / "m", "text")
    change(folder / "text_encoder" / "config.json", "text", width=4096, layers=64, heads=64)
    found = refused(lambda: load_model(folder), "does not fit the config.json beside it")
    assert "ln_final.bias (16,) instead of (4096,)" in found


def test_image_towers_larger_than_their_tensors(tmp_path):
    tiny_whole_clip().save(tmp_path / "clip")
    change(tmp_path / "clip" / "config.json", "image", "config", channels=[4096] * 4, convs=[64] * 4)
    refused(lambda: load_clip(f"local:{tmp_path / 'clip'}"), "does not fit the config.json")
    save_local(tmp_path / "cnn", SmallCNN(SmallCNNConfig(channels=(4, 4, 4, 4))))
    change(tmp_path / "cnn" / "config.json", "config", channels=[4096] * 4, convs=[64] * 4)
    refused(lambda: load_local(tmp_path / "cnn"), "does not fit the config.json")
    save_local(tmp_path / "vit", SmallViT(SmallViTConfig(image_size=8, width=8, heads=2, depth=1)))
    change(tmp_path / "vit" / "config.json", "config", width=4096, depth=256, image_size=4096, patch=2)
    refused(lambda: load_local(tmp_path / "vit"), "does not fit the config.json")
    change(tmp_path / "vit" / "config.json", "config", depth=4096)
    refused(lambda: load_local(tmp_path / "vit"), r"config\.depth is 4096 where a whole number from 0 to 256")


def test_a_class_table_and_a_generator_larger_than_their_tensors(tmp_path):
    folder = tiny_folder(tmp_path / "m", "class")
    change(folder / "config.json", "condition", dim=2**20)
    refused(lambda: load_model(folder), "differently shaped")
    folder = tiny_folder(tmp_path / "n", "none", "sgxl-tiny-16")
    change(folder / "config.json", "generator", "stylegan3", channel_base=2**20, channel_max=2**20)
    refused(lambda: load_model(folder), "differently shaped")


@pytest.mark.parametrize("make", [t5_folder, siglip_folder])
def test_a_tower_of_transformers_larger_than_its_tensors(make, tmp_path):
    folder = make(tmp_path / "tower")
    config = json.loads((folder / "config.json").read_text())
    group = ("text_config",) if "text_config" in config else ()
    layers = "num_hidden_layers" if group else "num_layers"
    width = "intermediate_size" if group else "d_ff"
    change(folder / "config.json", *group, **{layers: 64, width: 2**20})
    found = refused(lambda: load_text_encoder(f"transformers:{folder}"), "describes a network of")
    assert "numbers, and" in found
    change(folder / "config.json", *group, **{layers: 10**9})
    refused(
        lambda: load_text_encoder(f"transformers:{folder}"), f"{layers} is 1000000000 where a whole number"
    )
    change(folder / "config.json", *group, **{layers: 1, "vocab_size": 10**12})
    refused(lambda: load_text_encoder(f"transformers:{folder}"), "vocab_size is 1000000000000 where a number")


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", {"auto_map": {"AutoModel": "x--y.Z"}}, 'has "auto_map", which is not followed'),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, 'has "quantization_config"'),
        ("config.json", {"attn_implementation": "someone/kernels"}, "is not one of eager, sdpa"),
        ("config.json", {"model_type": "gpt2"}, "is of the type 'gpt2'"),
        ("config.json", {"model_type": 3}, "model_type is 3 where text belongs"),
        ("tokenizer_config.json", {"tokenizer_class": ["x"]}, "tokenizer_class is a list of 1 where text"),
    ],
)
def test_a_tower_of_transformers_that_names_code_or_other_networks(file, content, sentence, tmp_path):
    folder = t5_folder(tmp_path / "t5")
    change(folder / file, **content)
    refused(lambda: load_text_encoder(f"transformers:{folder}"), sentence)


def test_weights_of_transformers_in_parts_stay_in_their_folder(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"shared.weight": "../model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(lambda: load_text_encoder(f"transformers:{folder}"), "names files that are no parts")


def test_a_placed_open_clip_tower_smaller_than_its_model(monkeypatch, tmp_path):
    register(monkeypatch, tmp_path / "weights", "plain", shrunken("ViT-B-32"))
    load_text_encoder("open_clip:tiny-plain/tag").save_text(tmp_path / "text")
    change(tmp_path / "text" / "config.json", reference="open_clip:ViT-bigG-14/laion2b_s39b_b160k")
    (tmp_path / "text" / "tower").mkdir()
    save_file({"a": torch.zeros(3)}, tmp_path / "text" / "tower" / "open_clip_model.safetensors")
    refused(lambda: load_stored_text(tmp_path / "text"), "describes a network of 2,539,567,105 numbers")


def test_a_stored_open_clip_tower_smaller_than_its_model(tmp_path):
    about = {"format": 1, "kind": "open_clip", "model": "ViT-B-16-SigLIP", "quick_gelu": False}
    (tmp_path / "config.json").write_text(json.dumps({**about, "model": "PE-Core-bigG-14-448"}))
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    refused(lambda: load_stored_text(tmp_path), "does not fit the config.json")


def test_encoders_that_join_themselves(tmp_path):
    JoinedEncoders([tiny_clip(), tiny_clip()]).save_text(tmp_path / "joined")
    for part in ("part_0", "part_1"):
        folder = tmp_path / "joined" / part
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.symlink_to(".")
    refused(
        lambda: load_stored_text(tmp_path / "joined"), "joins encoders that join others more than 4 times"
    )


def write_table(path, header, data=b""):
    """A safetensors file with any table of tensors."""
    table = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table + data)


def entry(shape, *place):
    return {"dtype": "F32", "shape": shape, "data_offsets": list(place)}


@pytest.mark.parametrize(
    ("table", "data"),
    [
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8),
        ({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, 24),
        ({"a": entry([2**40], 0, 8)}, 8),
        ({"a": entry([2**33, 2**33], 0, 8)}, 8),
        ({"a": entry([-2], 0, 8)}, 8),
        ({"a": entry([2], 0, 8)}, 80),
        ({"__metadata__": {"a": 1}, "a": entry([2], 0, 8)}, 8),
        (b"[" * 100_000, 8),
        (b" " * (MAX_HEADER + 1), 8),
    ],
)
def test_a_table_of_tensors_that_does_not_fit_its_file(table, data, tmp_path):
    path = tmp_path / "model.safetensors"
    write_table(path, table, bytes(data))
    refused(lambda: stored_shapes(path, "restore it"), "truncated or no safetensors file: restore it")


def test_a_sparse_file_of_weights_is_not_read(tmp_path):
    folder = tiny_folder(tmp_path / "m", "none")
    size = 5 * 2**30
    write_table(folder / "generator.safetensors", {"a": entry([size // 4], 0, size)})
    with (folder / "generator.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) + size)
    refused(lambda: load_model(folder), "missing: ")


def test_a_sparse_file_of_json_is_not_read(tmp_path):
    folder = tiny_folder(tmp_path / "m", "class")
    with (folder / "labels.json").open("wb") as file:
        file.truncate(5 * 2**30)
    refused(lambda: load_model(folder), "more than the 8388608 that are read")


def test_an_array_whose_header_asks_for_more_than_the_file_has(tmp_path):
    path = tmp_path / "table.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**20)}
        np.lib.format.write_array_header_1_0(file, header)
    refused(lambda: load_class_table(path, ["a"]), "truncated or no array of numbers")


def test_pipes_are_not_waited_for(tmp_path):
    """Opening a named pipe that nobody writes to would never end."""
    names = ("config.json", "labels.json", "generator.safetensors", "metrics.json")
    for number, name in enumerate(names):
        folder = tiny_folder(tmp_path / f"m{number}", "class")
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        refused(lambda folder=folder: load_model(folder), name)
    names = ("config.json", "model.safetensors", "tokenizer.json", "special_tokens_map.json")
    for number, name in enumerate(names):
        folder = t5_folder(tmp_path / f"t5{number}")
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        refused(lambda folder=folder: load_text_encoder(f"transformers:{folder}"), f"{name} is no file")


def test_many_classes_of_one_name_are_looked_up_in_time():
    names = ClassNames(["a, a, b"] * 200_000)
    with pytest.raises(ValueError, match="is the name of 200000 classes"):
        names.resolve("a")


def test_a_placed_tokenizer_is_looked_through_first(monkeypatch, tmp_path):
    write_tokenizer(tmp_path / "tower")
    (tmp_path / "tower" / "tokenizer_config.json").write_text("[" * 10_000)
    register(monkeypatch, tmp_path / "tower", "siglip", shrunken("ViT-B-16-SigLIP", tmp_path / "tower"))
    about = {"format": 1, "kind": "reference", "reference": "open_clip:tiny-siglip/tag", "dim": 12}
    (tmp_path / "config.json").write_text(json.dumps({**about, "weights": "0"}))
    refused(lambda: load_stored_text(tmp_path), r"tokenizer_config\.json is nested deeper than")


def test_memory_that_runs_out_names_what_was_loaded():
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")):
        with (
            pytest.raises(MemoryShortError, match="x does not fit into memory: do y"),
            taking_memory("x", "do y"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="other"), taking_memory("x", "do y"):
        raise RuntimeError("other")
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_a_file_that_outgrows_memory_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(MemoryShortError, match=r"a\.safetensors does not fit into memory"), opened(path, "x"):
        raise MemoryError


@pytest.mark.slow
def test_the_tower_bomb_under_a_limit_of_memory(tmp_path):
    folder = tiny_folder(tmp_path / "m", "text")
    change(folder / "text_encoder" / "config.json", "text", width=4096, layers=64, heads=64)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (12 * 10**9,) * 2)\n"
        "from sgxl_t.cli.main import main\n"
        f"try: main(['sample', 'a fox', '--model', {str(folder)!r}, '--out', {str(tmp_path / 'o')!r}])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "does not fit the config.json beside it" in done.stderr
    assert int(done.stdout.split()[-1]) * 1024 < 2 * 2**30
