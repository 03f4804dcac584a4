"""Whatever is wrong with a file, its reader says so in one line."""

import pytest
from fuzz import fuzzer


@pytest.mark.slow
def test_damaged_files_are_read_right_or_told_of_in_one_line(tmp_path):
    found = list(fuzzer.fuzz(tmp_path, seed=0, numbers=range(2000)))
    assert [case for case in found if case.outcome in fuzzer.WRONG] == []
    for reader in fuzzer.READERS:  # else nothing was damaged, or nothing could be read
        assert {case.outcome for case in found if case.reader == reader} >= {fuzzer.RIGHT, fuzzer.LINE}
