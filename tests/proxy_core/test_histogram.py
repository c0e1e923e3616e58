"""The histogram of durations: every duration has its bucket, and percentiles are as good as promised."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.histogram import BUCKETS, Histogram, percentile_ms, starts_at_ms
from tests.support.properties import BOUNDED

LONGEST_MS = starts_at_ms(BUCKETS)


def bucket_of(duration_ns: int) -> int:
    histogram = Histogram()
    histogram.add(duration_ns)
    return histogram.counts.index(1)


@BOUNDED
@given(st.integers(0, int(LONGEST_MS * 1e6) - 1))
def test_a_duration_lies_between_the_bounds_of_its_bucket(duration_ns):
    bucket = bucket_of(duration_ns)
    assert starts_at_ms(bucket) <= duration_ns / 1e6 < starts_at_ms(bucket + 1)


def test_buckets_follow_each_other_without_a_gap_and_the_last_takes_the_rest():
    starts = [starts_at_ms(bucket) for bucket in range(BUCKETS + 1)]
    assert starts == sorted(set(starts))
    assert [bucket_of(round(start * 1e6)) for start in starts] == [*range(BUCKETS), BUCKETS - 1]
    assert bucket_of(10**12) == BUCKETS - 1
    assert LONGEST_MS > 2000


def test_percentiles_are_off_by_an_eighth_at_most():
    chance = random.Random(7)
    durations = sorted(int(chance.lognormvariate(12, 1.5)) for _ in range(5000))
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    for share in (0.5, 0.9, 0.99):
        exact = durations[int(share * len(durations))] / 1e6
        assert percentile_ms(histogram.counts, share) == pytest.approx(exact, rel=0.125)


def test_nothing_counted_has_no_percentile():
    assert percentile_ms([0] * BUCKETS, 0.5) is None
    assert percentile_ms([], 0.5) is None
