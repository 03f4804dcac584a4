"""Whenever a program is killed, the same command ends with what it would have left."""

import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
@pytest.mark.whole
def test_killed_at_random_moments_programs_leave_the_same():
    arguments = ["--kills=3", "--seed=0", "--programs", "solve", "explore", "offline"]
    command = [sys.executable, "-m", "tests.kills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same bits" in done.stdout  # else nothing was killed
