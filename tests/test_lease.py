"""What a lease means: when it is dead, and how long it stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aflamingock._lease import HeldLease, LeaseStatus, is_dead
from aflamingock._records import Lease
from aflamingock.exceptions import LockLostError


def _lease(**values) -> Lease:
    given: dict[str, Any] = {"service": "shop", "owner": "run", "epoch": 3, "ttl": 60.0}
    return Lease(**given | values)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# ttl 60: with a clock in the store more than 60 s old and watched for more than 15 s, as a renewal
# comes within 11 s; or, if that clock was set back, watched for more than 120 s; without a clock
# watched for more than 60 * 1.05 + 1 = 64 s.
@pytest.mark.parametrize(
    ("age", "watched", "dead"),
    [
        (0.0, 0.0, False),
        (60.0, 120.0, False),
        (60.1, 0.0, False),
        (60.1, 15.0, False),
        (60.1, 15.1, True),
        (1e9, 15.0, False),
        (-3600.0, 120.0, False),
        (-3600.0, 120.1, True),
        (None, 0.0, False),
        (None, 60.1, False),
        (None, 64.0, False),
        (None, 64.1, True),
    ],
)
def test_a_lease_is_dead_by_its_age_and_by_what_was_watched(age, watched, dead):
    assert is_dead(_lease(age=age), watched=watched) is dead


def test_a_lease_that_was_released_is_dead_at_once():
    assert is_dead(_lease(age=0.0, released=True), watched=0.0)


def test_a_lease_whose_holder_is_gone_is_dead_at_once():
    assert is_dead(_lease(age=0.0), watched=0.0, holder_gone=True)


def test_the_ttl_that_counts_is_that_of_the_lease():
    assert is_dead(_lease(age=7.0, ttl=6.0), watched=1.6)


def test_a_lease_of_a_damaged_ttl_ends_after_the_longest_one():
    assert not is_dead(_lease(age=3600.0, ttl=1e12), watched=7200.0)
    assert is_dead(_lease(age=3600.1, ttl=1e12), watched=900.1)
    assert is_dead(_lease(age=None, ttl=1e12), watched=3782.0)


class TestDeadlines:
    # ttl - max(ttl/20, min(1, ttl/6))
    @pytest.mark.parametrize(
        ("ttl", "must_renew_by", "stops_at"),
        [
            (1.0, 100 + 2 / 3, 100 + 5 / 6),
            (6.0, 104.0, 105.0),
            (12.0, 108.0, 111.0),
            (20.0, 100 + 40 / 3, 119.0),
            (60.0, 140.0, 157.0),
            (3600.0, 2500.0, 3520.0),
        ],
    )
    def test_two_deadlines_follow_from_when_the_request_was_sent(
        self, ttl, must_renew_by, stops_at
    ):
        held = HeldLease(_lease(ttl=ttl), sent_at=100.0, clock=Clock(100.0))

        assert held.must_renew_by == pytest.approx(must_renew_by)
        assert held.stops_at == pytest.approx(stops_at)
        assert held.remaining == pytest.approx(stops_at - 100)

    @pytest.mark.parametrize(
        ("now", "may_run", "may_write"),
        [
            (100.0, True, True),
            (139.9, True, True),
            (140.0, False, True),
            (156.9, False, True),
            (157.0, False, False),
            (1000.0, False, False),
        ],
    )
    def test_a_change_stops_before_the_right_to_write_ends(self, now, may_run, may_write):
        clock = Clock(100.0)
        held = HeldLease(_lease(), sent_at=100.0, clock=clock)
        clock.now = now

        assert _passes(held.check_renewed) is may_run
        assert _passes(held.check) is may_write
        assert held.is_standing is may_write

    def test_a_renewal_moves_the_deadlines(self):
        clock = Clock(139.0)
        held = HeldLease(_lease(), sent_at=100.0, clock=clock)
        renewed = _lease(token="renewed")
        held.renewed(renewed, sent_at=130.0)
        clock.now = 169.0

        held.check_renewed()
        assert held.lease is renewed
        assert held.must_renew_by == 170.0
        assert held.stops_at == 187.0

    def test_nothing_is_left_after_the_end(self):
        held = HeldLease(_lease(), sent_at=100.0, clock=Clock(999.0))

        assert held.remaining == 0.0

    def test_a_lost_lease_ends_at_once_and_for_good(self):
        held = HeldLease(_lease(), sent_at=100.0, clock=Clock(100.0))
        held.lose("was taken over by db-2 (epoch 4)")
        held.renewed(_lease(), sent_at=100.0)

        assert held.remaining == 0.0
        assert not held.is_standing
        with pytest.raises(LockLostError, match=r"'shop' was taken over by db-2 \(epoch 4\)\. "):
            held.check()

        with pytest.raises(LockLostError, match="was taken over"):
            held.check_renewed()

    def test_the_error_tells_for_how_long_there_was_no_renewal(self):
        held = HeldLease(_lease(), sent_at=100.0, clock=Clock(158.5))
        with pytest.raises(LockLostError, match=r"was not renewed for 58\.5 s of its 60 s: .*"):
            held.check()

    def test_a_renewal_that_comes_too_late_does_not_change_what_the_error_tells(self):
        clock = Clock(100.0)
        held = HeldLease(_lease(), sent_at=100.0, clock=clock)
        clock.now = 141.0
        held.lapse()
        held.renewed(_lease(), sent_at=141.0)

        with pytest.raises(LockLostError, match="was not renewed for 41.0 s of its 60 s"):
            raise held.error()

    def test_the_epoch_is_that_of_the_lease(self):
        assert HeldLease(_lease(epoch=8), sent_at=0.0, clock=Clock()).epoch == 8


def _passes(check) -> bool:
    try:
        check()
    except LockLostError:
        return False

    return True


class TestStatus:
    @pytest.mark.parametrize(("state", "held"), [("free", False), ("held", True)])
    def test_only_a_lease_that_is_renewed_in_time_is_held(self, state, held):
        assert LeaseStatus(state=state, lease=_lease()).held is held

    def test_an_expired_lease_is_not_held(self):
        assert not LeaseStatus(state="expired", lease=_lease()).held

    def test_without_a_lease_there_is_no_more_to_tell(self):
        assert LeaseStatus(state="free", lease=None).to_dict() == {"state": "free"}

    def test_it_reads_as_json(self):
        lease = _lease(
            host="db-1",
            pid=42,
            change_id="add-users",
            age=2.5,
            since=datetime(2026, 3, 1, 12, tzinfo=UTC),
        )

        assert json.loads(json.dumps(LeaseStatus(state="held", lease=lease).to_dict())) == {
            "state": "held",
            "service": "shop",
            "epoch": 3,
            "host": "db-1",
            "pid": 42,
            "owner": "run",
            "since": "2026-03-01T12:00:00+00:00",
            "changeId": "add-users",
            "ttlSeconds": 60.0,
            "renewedSecondsAgo": 2.5,
        }
