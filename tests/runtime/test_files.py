import tracemalloc

import pytest

from runtime.errors import FormatError
from runtime.storage.files import read_bytes


def test_a_small_file_takes_little_memory_whatever_it_might_have(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert read_bytes(tmp_path / "f", 1 << 30) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit, whole", [(999, False), (1000, True)])
def test_a_file_may_have_the_limit_and_no_byte_more(tmp_path, limit, whole):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    if whole:
        assert len(read_bytes(tmp_path / "f", limit)) == 1000
    else:
        with pytest.raises(FormatError, match="larger than the 999 bytes"):
            read_bytes(tmp_path / "f", limit)
