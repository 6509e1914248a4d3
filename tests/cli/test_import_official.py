"""`sgxl-t import`: model folders from official pickles, one sentence for everything that is none."""

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from fractions import Fraction

import pytest
import torch
from official_pickles import Persistent, official_content, release_names, write_official
from tiny_models import PETS, tiny_model

from sgxl_t.cli.main import main
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.model_io.published.importer import LICENCE


def call(capsys, *arguments):
    """Exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as left:
        main(["import", *map(str, arguments)])
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


def content(kind="class"):
    return official_content(tiny_model(kind, "sgxl-tiny-16")[0])


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file with a conditional network."""
    return write_official(tmp_path_factory.mktemp("official") / "pets16.pkl", content())


def test_folder_holds_the_network_its_classes_and_where_it_came_from(official, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(PETS) + "\n")
    code, out, _ = call(capsys, official, tmp_path / "m", "--labels", labels, "--json")
    assert code == 0
    expected = tiny_model("class", "sgxl-tiny-16")[0]
    generator, condition, info = load_model(tmp_path / "m")
    assert json.loads(out)["layers"] == len(expected.synthesis.layer_names)
    assert condition.names == PETS
    z, c = torch.randn(2, expected.z_dim), torch.tensor([0, 3])
    with torch.no_grad():
        assert torch.equal(generator(z, c, truncation_psi=0.5), expected(z, c, truncation_psi=0.5))
    assert info.provenance["data"] == "pets16.zip"
    assert info.provenance["kimg"] == 12345
    card = (tmp_path / "m" / "README.md").read_text()
    for part in ("license: other", LICENCE, "pets16.pkl", info.provenance["source"]["sha256"], "pets16.zip"):
        assert part in card
    assert "somebody" not in card


def test_unconditional_network_float16_and_a_licence_of_ones_own(tmp_path, capsys):
    path = write_official(tmp_path / "n.pkl", content("none"))
    code, out, _ = call(capsys, path, tmp_path / "m", "--dtype", "float16", "--licence", "cc-by-4.0")
    assert code == 0
    assert "no condition" in out
    generator, _, info = load_model(tmp_path / "m")
    assert info.condition.kind == "none"
    assert torch.isfinite(generator(torch.randn(1, generator.z_dim))).all()
    assert "license: cc-by-4.0" in (tmp_path / "m" / "README.md").read_text()


class Shell:
    """Runs a command when it is unpickled the usual way."""

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


class Evaluated:
    def __reduce__(self):
        return (eval, ("__import__('os').getcwd()",))


class Opened:
    def __reduce__(self):
        return (open, ("/etc/hostname",))


def with_generator(change):
    """A whole content whose average generator `change` has edited; it is given the attributes by part."""
    whole = content()
    generator = whole["G_ema"].meta["state"]
    synthesis = generator["_modules"]["synthesis"].meta["state"]
    first = synthesis["_modules"][synthesis["layer_names"][0]].meta["state"]
    change(generator, synthesis, first)
    return whole


def wider(_generator, _synthesis, first):
    first["_parameters"]["bias"] = torch.nn.Parameter(torch.zeros(99))


def padded(_generator, _synthesis, first):
    first["padding"] = [0, 0, 0, 0]


def other_band(_generator, _synthesis, first):
    first["in_cutoff"] = 77.0


def without_weight(_generator, _synthesis, first):
    del first["_parameters"]["weight"]


def without_layer(_generator, synthesis, _first):
    synthesis["layer_names"] = synthesis["layer_names"][1:]


def strange_name(_generator, synthesis, _first):
    synthesis["layer_names"][0] = "../../L0"


def cyclic(generator, _synthesis, _first):
    holder = Persistent("Loop", {"_parameters": {}, "_buffers": {}, "_modules": {}})
    inner = Persistent("Loop", {"_parameters": {}, "_buffers": {}, "_modules": {}})
    chain = holder
    for _ in range(60):
        chain.meta["state"]["_modules"]["a"] = inner
        chain, inner = inner, Persistent("Loop", {"_parameters": {}, "_buffers": {}, "_modules": {}})
    generator["_modules"]["loop"] = holder


def repeated(generator, _synthesis, _first):
    big = torch.nn.Parameter(torch.zeros(300_000))
    generator["_parameters"] = {f"copy{index}": big for index in range(100)}


def unknown_size(_generator, _synthesis, first):
    first["in_size"] = Fraction(3)


def unknown_flag(_generator, _synthesis, first):
    first["is_torgb"] = Fraction(0)


def unknown_tensor(_generator, _synthesis, first):
    first["_parameters"]["bias"] = Fraction(3)


def unknown_names(_generator, synthesis, _first):
    synthesis["layer_names"] = Fraction(3)


def unknown_part(_generator, synthesis, _first):
    synthesis["_modules"]["input"] = Fraction(3)


def nested_size(_generator, synthesis, _first):
    size = []
    for _ in range(400):
        size = [size]
    synthesis["_modules"]["input"].meta["state"]["sampling_rate"] = size


def infinite(_generator, _synthesis, first):
    first["_parameters"]["bias"].data.fill_(float("inf"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wider, "shape [99]"),
        (padded, "padding=[0, 0, 0, 0]"),
        (other_band, "in_cutoff=77"),
        (without_weight, "weight"),
        (without_layer, "no stem with heads"),
        (strange_name, "layer name"),
        (cyclic, "too deeply"),
        (repeated, "more numbers"),
        (infinite, "not finite"),
        (
            unknown_size,
            "as G_ema.synthesis.L0_24_32.in_size, where the size of a square belongs, needed",
        ),
        (unknown_flag, ".is_torgb, where true or false belongs"),
        (unknown_tensor, "holds an object of fractions.Fraction as G_ema.synthesis.L0_"),
        (unknown_names, "as G_ema.synthesis.layer_names, where layer names belong"),
        (unknown_part, "as G_ema.synthesis.input, which is not a network"),
        (nested_size, "holds a list as G_ema.synthesis.input.sampling_rate, where a number belongs"),
    ],
)
def test_networks_that_contradict_themselves_are_refused(tmp_path, capsys, change, words):
    refused(capsys, write_official(tmp_path / "n.pkl", with_generator(change)), words)


def refused(capsys, path, words):
    """Exit code 2, one sentence, and nothing beside the file."""
    before = sorted(path.parent.iterdir())
    code, out, err = call(capsys, path, path.parent / "m")
    assert (code, out) == (2, "")
    assert err.startswith("sgxl-t: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(("thing", "name"), [(Shell(), "system"), (Evaluated(), "eval"), (Opened(), "open")])
def test_code_is_named_where_a_network_belongs_and_never_run(tmp_path, capsys, thing, name, protocol):
    thing.mark = tmp_path / "it-ran"
    path = write_official(tmp_path / "n.pkl", {"G_ema": thing}, protocol)
    refused(capsys, path, f".{name} as G_ema, which is not a network, needed for the average generator")
    path = write_official(tmp_path / "n.pkl", {**content(), "D": [thing]}, max(protocol, 2))
    assert call(capsys, path, tmp_path / "m")[0] == 0
    assert not thing.mark.exists()


def test_source_code_inside_is_never_run(official, tmp_path, capsys):
    """The stored source would end the process."""
    assert call(capsys, official, tmp_path / "m")[0] == 0


def test_only_cut_files_are_to_be_downloaded_again(official, tmp_path, capsys):
    whole = official.read_bytes()
    for raw in (b"<html>no such file</html>", whole[:2000] + b"\xff" * 100 + whole[2000:], b"\x80\x04]."):
        path = tmp_path / "n.pkl"
        path.write_bytes(raw)
        assert "download" not in call(capsys, path, tmp_path / "m")[2]


def test_pipes_and_devices_are_not_opened(tmp_path, capsys):
    os.mkfifo(tmp_path / "n.pkl")
    refused(capsys, tmp_path / "n.pkl", "a named pipe")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files_are_refused(official, tmp_path, capsys, share):
    whole = official.read_bytes()
    path = tmp_path / "n.pkl"
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(capsys, path, "download the file again")


def test_damaged_files_are_refused_or_read_but_never_crash(official, tmp_path, capsys):
    whole = official.read_bytes()
    rng = torch.Generator().manual_seed(5)
    for place in torch.randint(len(whole) // 50, (12,), generator=rng).tolist():
        path = tmp_path / "n.pkl"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        assert call(capsys, path, tmp_path / "m")[0] in (0, 2)


def zeros(path, opener):
    with opener(path, "wb") as stream:
        for _ in range(16):
            stream.write(bytes(2**20))


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (zipped, "a zip"),
        (lambda path: zeros(path, gzip.open), "a gzip"),
        (lambda path: zeros(path, open), ""),
    ],
)
def test_bombs_of_zeros_are_refused_unopened(tmp_path, capsys, write, words):
    write(tmp_path / "n.pkl")
    refused(capsys, tmp_path / "n.pkl", words)


class Announced:
    """A tensor that shows the one number of its storage more often than there is memory."""

    def __init__(self, shape, stride, storage=None):
        self.arguments = (storage or torch.zeros(1).untyped_storage(), 0, shape, stride, False, {})

    def __reduce__(self):
        storage, *rest = self.arguments
        return (
            torch._utils._rebuild_tensor_v2,
            (torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True), *rest),
        )


@pytest.mark.parametrize(
    ("shape", "stride"),
    [((10**6, 10**6), (0, 0)), ((10**12,), (1,)), ((-5,), (1,)), ((2,), (-1,)), ((3,), (1, 1))],
)
def test_tensors_larger_than_their_numbers_are_refused(tmp_path, capsys, shape, stride):
    path = write_official(tmp_path / "n.pkl", {"G_ema": Announced(shape, stride)})
    refused(capsys, path, "tensor")


HUGE = 2**62
RAW = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", HUGE),
    "text": b"\x80\x04\x8d" + struct.pack("<Q", HUGE),
    "frame": b"\x80\x04\x95" + struct.pack("<Q", HUGE),
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", HUGE),
    "number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1),
    "persistent id": b"Psomething\n.",
    "extension": b"\x80\x02\x82\x01.",
    "no pickle": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "text file": b"version https://git-lfs.github.com/spec/v1\n",
    "a state without a list": b"\x80\x02ctorch.nn.modules.linear\nLinear\n)RK\x01K\x02sb.",
    "a number called": b"\x80\x02K\x01)R.",
    "a number changed": b"\x80\x02K\x01}b.",
    "nothing on the stack": b"\x80\x02R.",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_streams_that_no_pickler_writes_are_refused(tmp_path, capsys, raw):
    path = tmp_path / "n.pkl"
    path.write_bytes(raw)
    refused(capsys, path, str(path))


def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path, capsys):
    key = b"\x80\x02}K\x01" + b"2\x86" * 80 + b"K\x01s."
    path = tmp_path / "n.pkl"
    path.write_bytes(key)
    refused(capsys, path, "key")


def test_a_file_without_average_generator_and_other_pickles(tmp_path, capsys):
    path = write_official(tmp_path / "n.pkl", {**content(), "G": content()["G_ema"], "G_ema": None})
    refused(capsys, path, "holds no G_ema")
    for other in ([1, 2], {"a": 1}, {"G_ema": {"state": 1}}, "text"):
        refused(capsys, write_official(path, other), "n.pkl")
    buffer = io.BytesIO()
    torch.save({"G_ema": torch.zeros(3)}, buffer)
    path.write_bytes(buffer.getvalue())
    refused(capsys, path, "zip")


def test_mistakes_of_the_request_are_sentences(official, tmp_path, capsys):
    few = tmp_path / "few.txt"
    few.write_text("fox\ndog\n")
    assert "2 class names" in call(capsys, official, tmp_path / "m", "--labels", few)[2]
    few.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in call(capsys, official, tmp_path / "m", "--labels", few)[2]
    assert call(capsys, tmp_path / "nothing.pkl", tmp_path / "m")[0] == 2
    assert call(capsys, tmp_path, tmp_path / "m")[0] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert "holds other files" in call(capsys, official, tmp_path / "mine")[2]
    unconditional = write_official(tmp_path / "n.pkl", content("none"))
    few.write_text("fox\n")
    assert "no classes" in call(capsys, unconditional, tmp_path / "m", "--labels", few)[2]
    assert not (tmp_path / "m").exists()


def test_usual_unpickling_would_have_run_the_code(tmp_path):
    """The hostile files above are what they claim to be."""
    thing = Shell()
    thing.mark = tmp_path / "it-ran"
    with release_names():
        pickle.loads(pickle.dumps(thing))
    assert thing.mark.exists()
