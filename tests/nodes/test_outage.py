from __future__ import annotations

from nodes.outage import MOST_LINES, Outage


def test_pauses_double_up_to_the_longest_less_a_part_at_random() -> None:
    outage = Outage(0.5, 8.0)
    pauses = [outage.failed() for _ in range(2000)]
    assert 0.25 <= pauses[0] <= 0.5
    assert 0.5 <= pauses[1] <= 1.0
    assert all(4.0 <= pause <= 8.0 for pause in pauses[4:])
    assert len(set(pauses[4:])) > 1000  # not all at the same moment
    assert outage.attempts == 2000


def test_each_reason_is_told_once_and_not_too_many_of_them() -> None:
    outage = Outage(1, 1)
    assert outage.is_news("refused")
    assert not outage.is_news("refused")
    told = sum(outage.is_news(str(number)) for number in range(10))
    assert told == MOST_LINES - 1
