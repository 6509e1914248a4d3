"""A picture from the packaged model does not wait for libraries that it does not need."""

import json
import subprocess
import sys

HEAVY = [
    *(
        "open_clip",
        "transformers",
        "timm",
        "torchvision",
        "accelerate",
        "pandas",
        "webdataset",
        "tensorboard",
    ),
    *("sympy", "torch._dynamo", "httpx", "requests"),
]
"""Each takes a fifth of a second to several seconds to import; the last come with the hub's client and with
torch's compiler."""
SCRIPT = """
import json, sys
from sgxl_t.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps([name for name in HEAVY if name in sys.modules]))
"""


def test_a_picture_imports_nothing_heavy(tmp_path):
    script = f"HEAVY = {HEAVY!r}\n{SCRIPT}"
    command = [sys.executable, "-c", script, "sample", "a red fox in snow", "--out", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert len(list((tmp_path / "x").glob("*.png"))) == 1
