"""The queue against a model of two lists: which sequence is admitted next, which are refused, and that none is lost."""

from __future__ import annotations

import random

import pytest

from csm_bundle.errors import EngineBusyError
from csm_engine.scheduling.sequence import Sequence
from tests.csm_engine.scheduling.small_schedulers import run_prefill, scheduler, sequence


@pytest.mark.parametrize("seed", range(30))
def test_the_queue_is_two_lists_of_which_one_goes_first(seed: int) -> None:
    rng = random.Random(seed)
    num_slots, max_waiting = rng.randint(1, 4), rng.randint(0, 4)
    policy = scheduler(num_slots=num_slots, max_waiting=max_waiting)
    waiting: dict[bool, list[Sequence]] = {True: [], False: []}  # by whether they have a listener
    running: list[Sequence] = []
    for _ in range(300):
        room = num_slots - len(running)
        match rng.choice(("add", "add", "admit", "remove", "leave")):
            case "add":
                has_listener = rng.random() < 0.5
                item = sequence(rows=2, has_listener=has_listener, playout_lead_s=rng.choice((-1.0, 0.0, 0.0, 1.0)))
                if has_listener:
                    fits = len(waiting[True]) < max_waiting + num_slots + room
                else:
                    fits = len(waiting[True]) + len(waiting[False]) < max_waiting + room
                if fits:
                    policy.add(item)
                    waiting[has_listener].append(item)
                    waiting[True].sort(key=lambda item: item.underrun_at)
                else:
                    with pytest.raises(EngineBusyError):
                        policy.add(item)
            case "admit":
                news, queue = policy.admit(), waiting[True] or waiting[False]
                assert (news is not None) == bool(room and queue)
                if news is not None:
                    assert news[0] is queue.pop(0)
                    running.append(news[0])
                    run_prefill(policy)
            case "remove" if running:
                policy.remove(running.pop(rng.randrange(len(running))))
            case "leave" if waiting[True] or waiting[False]:
                queue = rng.choice([queue for queue in waiting.values() if queue])
                policy.remove(queue.pop(rng.randrange(len(queue))))
        assert list(policy.waiting) == waiting[True] + waiting[False]
        assert policy.num_admitted == len(running)
