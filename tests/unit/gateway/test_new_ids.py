"""Ids are drawn in advance, and yet none is given out twice, in threads or in a forked child."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import gateway.model
from gateway.model import new_id


def test_no_id_is_given_out_twice() -> None:
    with ThreadPoolExecutor(4) as threads:
        drawn = [*threads.map(lambda _: [new_id() for _ in range(500)], range(4))]
    ids = [each for some in drawn for each in some]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_a_child_does_not_share_those_that_its_parent_drew() -> None:
    new_id()
    assert gateway.model._ids
    child = os.fork()
    if child == 0:
        os._exit(0 if not gateway.model._ids else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gateway.model._ids
