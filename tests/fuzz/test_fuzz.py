"""Readers report the faults of damaged files in one line."""

import pytest
from fuzz import fuzzer


@pytest.mark.slow
def test_damaged_files_are_read_right_or_refused_in_one_line(tmp_path):
    found = list(fuzzer.fuzz(tmp_path, seed=0, numbers=range(2000)))
    assert [case for case in found if case.outcome in fuzzer.WRONG] == []
    for reader in fuzzer.READERS:  # some damaged files must be read, and others refused
        assert {case.outcome for case in found if case.reader == reader} >= {fuzzer.RIGHT, fuzzer.LINE}
