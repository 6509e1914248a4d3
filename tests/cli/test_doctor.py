import json
import time

from test_main import call

from sgxl_t.cli import doctor
from sgxl_t.networks.backbones import precision


def test_machine_is_described_without_a_hub(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, _ = call(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["versions"]["torch"]
    assert found["machine"]["processor cores"] >= 1
    assert found["devices"][0]["name"] == "cpu"
    assert found["hub"] == "switched off by HF_HUB_OFFLINE"
    assert any("features train" in line for line in found["advice"])
    assert "processor cores" in call(capsys, "doctor")[1]


def test_bfloat16_is_offered_where_the_processor_multiplies_it(monkeypatch):
    for able, words in ((True, "fp32 and bf16"), (False, "no instructions for bf16")):
        monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda able=able: able)
        assert words in doctor._devices()[0]["what"]


def test_silent_hub_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.05)
    monkeypatch.setattr(doctor, "_ask_hub", lambda: time.sleep(5) or "late")
    begun = time.monotonic()
    assert doctor.examine()["hub"].startswith("no answer within")
    assert time.monotonic() - begun < 4


def test_unreachable_hub_is_told(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert doctor._ask_hub().startswith("not reachable at http://127.0.0.1:9")
