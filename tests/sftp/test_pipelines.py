"""How much is under way at once."""

from __future__ import annotations

import pytest

from runner.sftp.batch.batch import count_reads

KIB = 1024


@pytest.mark.parametrize(
    ("round_trip_seconds", "read_bytes", "reads"),
    [
        (0.0, 255 * KIB, 9),  # loopback: what lies in the server beyond this costs it dear
        (0.005, 255 * KIB, 29),
        (0.05, 255 * KIB, 64),  # a long line is filled, with 16 MiB
        (float("inf"), 255 * KIB, 64),
        (0.0, 32 * KIB, 64),  # servers that announce no limits
    ],
)
def test_reads_under_way(round_trip_seconds: float, read_bytes: int, reads: int) -> None:
    assert count_reads(round_trip_seconds, read_bytes) == reads
