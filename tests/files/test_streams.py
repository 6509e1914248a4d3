"""Words that cannot be written are lost, and nothing else is."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from tqdm import tqdm
from sgxl_t.files.streams import forgiving_streams
with forgiving_streams():
    for _ in tqdm(range(3), mininterval=0):
        print("x" * 10000, flush=True)
sys.exit(75)
"""


@pytest.mark.parametrize("where", [">&- 2>&-", ">/dev/full 2>&1", "2>&1 | true"])
def test_work_goes_on_and_the_exit_code_stays(where):
    command = f"set -o pipefail; sleep 0.1; {{ {sys.executable} -c '{SCRIPT}'; }} {where}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert answer.returncode == 75, answer.stderr


def test_words_that_can_be_written_are(tmp_path):
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert answer.returncode == 75
    assert answer.stdout.count("x") == 30000
    assert "3/3" in answer.stderr
