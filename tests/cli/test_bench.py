import itertools
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_main import call

from sgxl_t.bench import job, machine, measure
from sgxl_t.bench.against.other import WORKERS, OtherVersion
from sgxl_t.bench.cases import cases, swap
from sgxl_t.bench.cases.workloads import filter_workload, generator_workload, sizes
from sgxl_t.bench.job import Job
from sgxl_t.bench.machine import Roof
from sgxl_t.bench.memory import measure_memory
from sgxl_t.bench.request import BenchRequest, check
from sgxl_t.bench.runner import Runner
from sgxl_t.bench.timing import REPEATS, loops_for, quartiles
from sgxl_t.bench.variants import runner_class, variant_backend, variants
from sgxl_t.networks.generators import synthesis_xl
from sgxl_t.networks.generators.registry import model_config
from sgxl_t.networks.generators.schedule_xl import all_layers

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
PROMISED = {"name", "resolution", "batch", "dtype", "variant", "mode"}
PROMISED |= {"ms", "reference_ms", "ratio", "error", "spread"}
SMALL = ("bench", "--quick", "--threads", "1", "--only", "filtered_lrelu-38-82-36-*")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Turns of no length, and a machine that is not measured."""
    monkeypatch.setattr(job, "SHORTEST_QUICK", 0.0)
    monkeypatch.setattr(measure, "measure_roof", lambda *_, **__: Roof(50.0, 5.0))


def test_rows_have_what_is_promised(capsys, tmp_path):
    file = tmp_path / "rows.json"
    code, out, err = call(capsys, *SMALL, "--json", str(file))
    assert code == 0, err
    rows = json.loads(file.read_text())
    assert [(row["mode"], row["dtype"]) for row in rows] == [
        (mode, dtype) for mode in ("forward", "forward_backward") for dtype in ("float32", "bfloat16")
    ]
    for row in rows:
        assert row.keys() >= PROMISED
        assert row["name"] == "filtered_lrelu-38-82-36-c32-quick"
        assert (row["resolution"], row["batch"], row["variant"], row["clock"]) == (36, 1, "default", "cpu")
        assert row["ratio"] == pytest.approx(row["reference_ms"] / row["ms"], rel=2e-3)
        assert row["ratio_low"] <= row["ratio_high"]
        assert row["error"] <= (1e-4 if row["dtype"] == "float32" else 5e-2)
        assert row["reference"] == "plain float32"
        assert row["repeats"] == REPEATS
        assert 0 <= row["system_share"] <= 1
        assert 0 <= row["reference_system_share"] <= 1
        assert not row["keeps_memory"]
    assert all(name in out for name in ("ratio", "filtered_lrelu-38-82-36-c32-quick", str(file)))


def test_networks_run_in_all_modes_and_dtypes(capsys, tmp_path):
    file = tmp_path / "rows.json"
    asked = ("--only", "sg*-tiny-*", "--batch", "1", "--json", str(file))
    code, _, err = call(capsys, "bench", "--quick", "--threads", "1", *asked)
    assert code == 0, err
    rows = json.loads(file.read_text())
    assert {row["name"] for row in rows} == {"sgxl-tiny-16-quick", "sgt-tiny-32-quick"}
    assert len(rows) == 8
    assert all(row["gflop"] > 0 and row["peak_mib"] > 0 for row in rows)
    training = [row for row in rows if row["mode"] == "forward_backward"]
    assert all(0 < row["saved_mib"] <= row["peak_mib"] for row in training)
    assert all(row["saved_mib"] == 0 for row in rows if row["mode"] == "forward")


def test_unequal_results_make_no_row(capsys, tmp_path, monkeypatch):
    right = synthesis_xl.filtered_lrelu
    monkeypatch.setattr(synthesis_xl, "filtered_lrelu", lambda *a, **k: right(*a, **k) * 1.001)
    file = tmp_path / "rows.json"
    code, out, err = call(capsys, *SMALL, "--mode", "forward", "--json", str(file))
    assert code == 1
    assert json.loads(file.read_text())[0]["dtype"] == "bfloat16"  # whose rounding is larger than that
    assert "float32 default: no row, it differs from the reference by 1.0e-03, more than 1e-05" in err
    assert " float32 " not in out


def test_an_error_that_is_no_number_makes_no_row(capsys, tmp_path, monkeypatch):
    right = synthesis_xl.filtered_lrelu
    monkeypatch.setattr(synthesis_xl, "filtered_lrelu", lambda *a, **k: right(*a, **k) * float("nan"))
    file = tmp_path / "rows.json"
    assert call(capsys, *SMALL, "--json", str(file))[0] == 1
    assert json.loads(file.read_text()) == []


@pytest.mark.parametrize("model", ["sgxl-tiny-16", "sgt-tiny-32"])
def test_reference_network_draws_the_same_pictures_by_other_operators(model, monkeypatch):
    work = generator_workload(model, 2, CPU)
    used = set()

    def noting(name, plain):
        def noted(*arguments, **options):
            used.add(name)
            return plain(*arguments, **options)

        return noted

    places = [(module, name, noting(name, plain)) for module, name, plain in swap.PLACES]
    monkeypatch.setattr(swap, "PLACES", places)
    ours = Runner(work, "forward", torch.float32, "wall").outputs()[0]
    assert not used
    theirs = Runner(work, "forward", torch.float32, "wall", swap.reference_operators).outputs()[0]
    again = Runner(work, "forward", torch.float32, "wall").outputs()[0]
    assert torch.equal(ours, again)
    assert not torch.equal(ours, theirs)
    assert (ours - theirs).norm() / theirs.norm() < 1e-5
    alias_free = {"lrelu", "modulated_conv_sg3"}
    assert used == (alias_free if model.startswith("sgxl") else {"modulated_conv", "upfirdn2d"})


def test_operators_come_back_after_an_error():
    before = [vars(owner)[name] for owner, name, _ in swap.PLACES]
    with pytest.raises(RuntimeError), swap.reference_operators():
        raise RuntimeError
    assert [vars(owner)[name] for owner, name, _ in swap.PLACES] == before


def test_residual_branches_count_in_the_pictures():
    work = generator_workload("sgt-tiny-16", 1, CPU)
    picture = Runner(work, "forward", torch.float32, "wall").outputs()[0]
    gamma = next(weight for weight in work.weights if weight.ndim == 4 and weight.shape[0] == 1)
    with torch.no_grad():
        gamma.zero_()
    other = Runner(work, "forward", torch.float32, "wall").outputs()[0]
    assert (picture - other).norm() / picture.norm() > 1e-3


def test_another_version_takes_the_place_of_the_reference(capsys, tmp_path):
    file = tmp_path / "rows.json"
    options = ("--dtype", "float32", "--against", str(ROOT), "--json", str(file))
    code, _, err = call(capsys, *SMALL, *options)
    assert code == 0, err
    rows = json.loads(file.read_text())
    assert len(rows) == 2
    for row in rows:
        assert row["reference"] == str(ROOT)
        assert row["error"] == 0
        assert 1 / 3 < row["ratio"] < 3
        assert row["saved_mib"] == row["reference_saved_mib"]
        assert row["system_share"] >= 0
        assert row["reference_system_share"] is None


STRANGER = """
import json, sys
from pathlib import Path
import torch
import sgxl_t
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "prepare":
        torch.save([torch.zeros(1, 32, 36, 36)], request["file"])
        answer = {"saved": 0.0, "peak": 1.0, "ms": 1.0}
    else:
        answer = {"from": str(Path(sgxl_t.__file__).parent)} if request["do"] == "start" else {"ms": 1.0}
    print(json.dumps(answer), flush=True)
"""
"""A version whose cases give zeros, whatever they are called."""


@pytest.mark.parametrize("place", WORKERS)
def test_another_version_runs_its_own_cases_wherever_it_keeps_them(capsys, tmp_path, place):
    worker = tmp_path / place
    worker.parent.mkdir(parents=True)
    (tmp_path / "sgxl_t" / "__init__.py").write_text("")
    worker.write_text(STRANGER)
    options = ("--mode", "forward", "--dtype", "float32", "--against", str(tmp_path))
    code, out, err = call(capsys, *SMALL, *options)
    assert (code, out) == (1, "")
    assert "no row, it differs from the reference" in err


@pytest.mark.parametrize(
    ("worker", "words"),
    [(None, "a version without `sgxl-t bench`"), ("import nothing_like_it", "cannot be run: the process of")],
)
def test_another_version_that_cannot_run_is_one_sentence(tmp_path, worker, words):
    (tmp_path / "sgxl_t").mkdir()
    (tmp_path / "sgxl_t" / "__init__.py").write_text("")
    if worker is not None:
        (tmp_path / WORKERS[0]).parent.mkdir(parents=True)
        (tmp_path / WORKERS[0]).write_text(worker)
    with pytest.raises(ValueError, match=words):
        OtherVersion(tmp_path, 1)


def test_interrupt_leaves_no_file_and_no_changed_operator(capsys, tmp_path, monkeypatch):
    own = synthesis_xl.filtered_lrelu

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "alternate", interrupted)
    code, _, err = call(capsys, *SMALL, "--json", str(tmp_path / "rows.json"))
    assert (code, err.splitlines()[-1]) == (130, "interrupted")
    assert list(tmp_path.iterdir()) == []
    assert synthesis_xl.filtered_lrelu is own


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "nothing-*"), "fits no case"),
        (("--repeats", "3"), "too few"),
        (("--variant", "magic"), "unknown"),
        (("--against", "/nowhere"), "holds no sgxl_t"),
        (("--device", "magic"), "is not a device"),
        (("--device", "meta"), "cannot be timed"),
        (("--batch", "3"), "no case"),
        (("--json", "/proc/rows.json"), "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(capsys, options, words):
    code, out, err = call(capsys, "bench", "--quick", *options)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]


def test_cases_are_listed_and_begin_with_what_they_measure(capsys):
    code, out, _ = call(capsys, "bench", "--list")
    assert code == 0
    names = out.split()
    assert "sgxl-imagenet-256" in names
    assert all(name.startswith(("filtered_lrelu", "modulated_conv", "sgxl-", "sgt-")) for name in names)
    assert all(case.name.endswith("-quick") for case in cases.quick_cases())
    assert "sgxl-imagenet-256" not in [case.name for case in cases.find_cases(False)]


def test_sizes_of_the_filters_are_those_of_layers():
    for wanted, channels in cases.FILTERS.items():
        work = filter_workload(wanted, 2, 1, CPU)
        assert work.call(*work.maps, *work.others).shape == (1, 2, wanted[2], wanted[2])
        assert work.known.gflop > 0
        assert work.known.megabytes > 0
        network = itertools.chain(*all_layers(model_config("sgxl-imagenet-256")))
        assert channels == next(spec.out_channels for spec in network if sizes(spec) == wanted)
    with pytest.raises(ValueError, match="no layer"):
        filter_workload((1, 2, 3), 2, 1, CPU)


def test_variants_choose_the_forms_they_name():
    from sgxl_t.ops.backend import current

    assert variants(CPU)[0] == "default"
    assert "triton" not in variants(CPU)
    assert "cuda-graph" in variants(torch.device("cuda"))
    with variant_backend("compiled+winograd", always=False)():
        assert (current().conv, current().filter) == ("winograd", "compiled")
    with variant_backend("default", always=True)():
        assert (current().conv, current().filter) == ("direct", "band")
    assert runner_class("winograd", "forward", "bfloat16") is None
    assert runner_class("cuda-graph", "forward_backward", "float32") is None


def test_graphs_capture_the_same_call(monkeypatch):
    """With a capture that does nothing: there is none on a CPU."""
    captured = []
    monkeypatch.setattr("sgxl_t.bench.runner.CapturedCall", lambda run: captured.append(run) or run)
    work = generator_workload("sgxl-tiny-16", 1, CPU)
    runner = runner_class("cuda-graph", "forward", "float32")(work, "forward", torch.float32, "wall")
    assert torch.equal(runner.outputs()[0], Runner(work, "forward", torch.float32, "wall").outputs()[0])
    assert torch.equal(*runner.outputs(), *runner.outputs())
    assert len(captured) == 1


def test_slow_sides_have_no_trial_run(monkeypatch):
    """A side whose run under the profiler filled several turns goes straight to its turns."""
    monkeypatch.setattr(job, "SHORTEST_QUICK", 1e-9)
    calls = []
    plain = Runner._forward
    monkeypatch.setattr(Runner, "_forward", lambda self: calls.append(self) or plain(self))
    request = BenchRequest(
        quick=True, only=("filtered_lrelu-38-82-36-*",), modes=("forward",), progress=False
    )
    (case,) = check(request)
    work = Job(case, 1, "forward", request, None, "cpu")
    (ours,) = work.measure(["float32"])
    reference = work.references["float32"]
    assert calls.count(reference.runner) == 1 + REPEATS
    assert calls.count(ours.runner) == 2 + REPEATS  # the first may compile, the second is watched
    assert len(ours.times) == len(reference.times) == REPEATS


def test_work_of_a_network_is_counted():
    work = generator_workload("sgxl-tiny-16", 2, CPU)
    done = Runner(work, "forward", torch.float32, "wall").work_done()
    weights = sum(weight.numel() for weight in work.weights)
    stem = itertools.chain(*all_layers(model_config("sgxl-tiny-16")))
    maps = sum(spec.in_channels * spec.in_size**2 + spec.out_channels * spec.out_size**2 for spec in stem)
    assert done.megabytes == pytest.approx(2 * (weights + 2 * maps) / 1e6, rel=0.1)
    trained = Runner(work, "forward_backward", torch.float32, "wall").work_done()
    assert trained.gflop == pytest.approx(3 * done.gflop)


FRESH = """
import resource
import torch
from sgxl_t.bench.allocator import SystemTime, keep_memory
def faults():
    for turn in range(32):
        if turn == 24:  # blocks of the heap settle first
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
system = SystemTime()
with system:
    before = faults()
keep_memory()
print(before, faults(), system.share)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_costs_no_fresh_pages():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    fresh, kept, share = map(float, done.stdout.split())
    assert kept < fresh / 10
    assert 0 < share < 1


def test_memory_is_kept_where_asked(capsys, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(measure, "keep_memory", lambda: kept.append(True))
    file = tmp_path / "rows.json"
    options = ("--keep-memory", "--mode", "forward", "--dtype", "float32", "--json", str(file))
    code, out, err = call(capsys, *SMALL, *options)
    assert (code, kept) == (0, [True]), err
    assert json.loads(file.read_text())[0]["keeps_memory"]
    assert "memory kept" in out


def test_memory_counts_storages_once_and_no_weights():
    weight = torch.randn(1000, 1000, requires_grad=True)
    x = torch.randn(500, 1000, requires_grad=True)

    def run(watch):
        with watch:
            y = x @ weight  # keeps x and the weight
            loss = (y * y[:]).sum()  # keeps y, twice
        (y**3).sum()  # no more watched
        return loss

    _, memory = measure_memory(run, [weight], CPU)
    assert memory.saved == pytest.approx(2 * 500 * 1000 * 4 / 2**20)
    assert memory.peak == pytest.approx(2 * 500 * 1000 * 4 / 2**20, rel=0.3)


def test_memory_of_a_backward_pass_counts_what_it_frees():
    x = torch.randn(500, 1000, requires_grad=True)

    def run(watch):
        with watch:
            y = x
            for _ in range(8):
                y = y.sin()
        return torch.autograd.grad(y.sum(), x)

    _, memory = measure_memory(run, [x], CPU)
    one = 500 * 1000 * 4 / 2**20
    assert memory.saved == pytest.approx(7 * one)  # and x, which is excluded
    assert memory.peak < 12 * one  # 8 results and a few gradients: those kept alive would be 16


def test_roof_and_quartiles(monkeypatch):
    monkeypatch.setattr(machine, "SHORTEST", 1.0)
    roof = machine.measure_roof(torch.float32, CPU, "wall", small=True)
    assert roof.gemm > 1
    assert roof.copy > 0.1
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]).spread == pytest.approx(2 / 3)
    assert (loops_for(100, 60), loops_for(7, 60)) == (1, 9)
    assert machine.load() >= 0
