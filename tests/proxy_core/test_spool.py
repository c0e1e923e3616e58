"""Spool files: what is appended comes back in order, whatever dies, tears or runs full."""

import errno
import fcntl
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import spool as spool_module
from proxy_core.spool import Spool, SpoolUnavailable
from tests.support.databases import open_folder

MANY = 1_000_000


@pytest.fixture
def spool(tmp_path):
    made = Spool.create(tmp_path / "spool", "one", MANY)
    yield made
    made.close()


def read_all(spool: Spool, max_bytes: int = MANY) -> list[bytes]:
    found = []
    while spool.waiting_bytes:
        chunk = spool.peek(max_bytes)
        found += chunk.payloads
        spool.advance(chunk)
    return found


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 200))
def test_records_come_back_whole_and_in_order_whatever_the_chunks(records, max_bytes):
    with open_folder() as folder:
        spool = Spool.create(folder, "one", MANY)
        assert spool.append(records, sync=False) == len(records)
        assert read_all(spool, max_bytes) == records
        spool.close()


def test_peeking_does_not_move_on_and_clearing_needs_everything_taken(spool):
    spool.append([b"a", b"b"])
    assert spool.peek(1) == spool.peek(1)
    spool.advance(spool.peek(1))
    spool.clear()
    assert spool.path.stat().st_size > 0
    assert read_all(spool) == [b"b"]
    spool.clear()
    assert spool.path.stat().st_size == 0
    spool.append([b"c"])
    assert read_all(spool) == [b"c"]


def test_a_full_spool_keeps_what_fits_in_order_and_says_how_many(tmp_path):
    spool = Spool.create(tmp_path, "small", 3 * (8 + 10))
    assert spool.append([b"x" * 10, b"y" * 10]) == 2
    assert spool.append([b"z" * 11, b"!"]) == 0, "nothing overtakes the one that did not fit"
    assert spool.append([b"z" * 10]) == 1
    assert len(read_all(spool)) == 3
    spool.clear()
    assert spool.append([b"w" * 10]) == 1
    spool.close()


def test_a_living_processs_file_is_not_adopted_and_a_dead_ones_is(tmp_path):
    spool = Spool.create(tmp_path, "one", MANY)
    spool.append([b"a"])
    assert list(Spool.adopt(tmp_path, MANY)) == []
    os.close(spool._fd)  # as the end of the process does
    (adopted,) = Spool.adopt(tmp_path, MANY)
    assert list(Spool.adopt(tmp_path, MANY)) == [], "it has an owner again"
    assert read_all(adopted) == [b"a"]
    adopted.close()
    (again,) = Spool.adopt(tmp_path, MANY)
    assert read_all(again) == [b"a"], "taken is not applied: only clearing forgets"
    again.clear()
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """An adopter took the fresh, empty file for a dead process's: what went into it would be in no folder."""
    real, removals = fcntl.flock, [tmp_path / "one.spool"]

    def after_an_adopter(fd, operation):
        if removals:
            removals.pop().unlink()
        real(fd, operation)

    monkeypatch.setattr(spool_module.fcntl, "flock", after_an_adopter)
    spool = Spool.create(tmp_path, "one", MANY)
    spool.append([b"a"])
    os.close(spool._fd)
    (adopted,) = Spool.adopt(tmp_path, MANY)
    assert read_all(adopted) == [b"a"]
    adopted.close()


def test_dead_files_are_adopted_oldest_first(tmp_path):
    for number, name in enumerate(["c", "a", "b"]):
        spool = Spool.create(tmp_path, name, MANY)
        spool.append([name.encode()])
        spool.close()
        os.utime(spool.path, (number, number))
    adopted = list(Spool.adopt(tmp_path, MANY))
    assert [spool.path.stem for spool in adopted] == ["c", "a", "b"]
    for spool in adopted:
        spool.close()


@pytest.mark.parametrize("torn", [1, 7, 8, 9, 12])
def test_a_torn_tail_costs_only_itself(tmp_path, caplog, torn):
    spool = Spool.create(tmp_path, "one", MANY)
    spool.append([b"first", b"second"])
    os.close(spool._fd)
    size = spool.path.stat().st_size
    os.truncate(spool.path, size - torn)
    (adopted,) = Spool.adopt(tmp_path, MANY)
    assert read_all(adopted) == [b"first"]
    assert adopted.damaged == 1
    assert "left out" in caplog.text
    adopted.clear()
    adopted.close()
    assert not spool.path.exists()


def test_a_damaged_record_costs_only_itself(tmp_path):
    spool = Spool.create(tmp_path, "one", MANY)
    spool.append([b"first", b"second", b"third"])
    os.pwrite(spool._fd, b"X", 8 + 5 + 8)
    assert read_all(spool) == [b"first", b"third"]
    spool.close()


def test_a_file_of_rubbish_is_left_out_and_removed(tmp_path):
    (tmp_path / "old.spool").write_bytes(b"\xff" * 100)
    (adopted,) = Spool.adopt(tmp_path, MANY)
    assert read_all(adopted) == []
    adopted.clear()
    adopted.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_keeps_nothing_of_the_call(spool, monkeypatch):
    spool.append([b"first"])
    real = os.pwrite
    calls = []

    def fills_up(fd, data, offset):
        if calls:
            raise OSError(errno.ENOSPC, "no space left on device")
        calls.append(offset)
        return real(fd, bytes(data)[:5], offset)

    monkeypatch.setattr(spool_module.os, "pwrite", fills_up)
    with pytest.raises(SpoolUnavailable, match="no space left"):
        spool.append([b"second"])
    monkeypatch.undo()
    spool.append([b"third"])
    assert read_all(spool) == [b"first", b"third"]


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolUnavailable, match="cannot be written"):
        Spool.create(tmp_path / "file", "one", MANY)


def test_only_our_account_reads_spools(spool):
    assert spool.path.stat().st_mode & 0o077 == 0
    assert spool.path.parent.stat().st_mode & 0o077 == 0


def test_closing_twice_is_closing_and_an_empty_file_goes(spool):
    spool.close()
    spool.close()
    assert not spool.path.exists()
