"""A program that was killed and started again leaves the same files as one that was never killed."""

import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
@pytest.mark.whole
def test_programs_killed_at_random_moments_leave_the_same_files():
    arguments = ["--kills=3", "--seed=0", "--programs", "solve", "explore", "offline"]
    command = [sys.executable, "-m", "tests.kills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same bits" in done.stdout  # otherwise nothing was killed
