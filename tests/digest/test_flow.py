"""What code writes to outside itself: whether anything is read from there again."""

import functools
import time
import types
import warnings

import pytest

from sklearn_torch_bridge._digest import _flow
from sklearn_torch_bridge._digest._flow import flow_of

STATE, LOG = {}, []
count, warned = 0, False


def counts(x):
    global count  # noqa: PLW0603 - what is tested
    count += 1
    return x


def counts_in_a_dict(x):
    STATE["n"] = STATE.get("n", 0) + len(x)
    STATE["calls"] += 1
    return x


def fills_a_list_in_a_dict(x):
    STATE.setdefault("n", []).append(x)
    if x not in STATE:
        STATE[x] = []
    STATE[x].append(1)
    return x


def fills_in_a_loop(rows):
    for row in rows:
        if row not in STATE:
            STATE[row] = 1
    return rows


def keeps_the_last(x):
    LOG.append(x)
    if len(LOG) > 100:
        LOG.clear()
    return x


def shows(x):
    LOG.append(x)
    print(f"{len(LOG)} rows", count)  # noqa: T201 - what is tested
    return x


def warns_once(x):
    global warned  # noqa: PLW0603 - what is tested
    if not warned:
        warnings.warn(f"{x}", stacklevel=1)
        warned = True


def warns_or_counts(x):
    global warned  # noqa: PLW0603 - what is tested
    if warned:
        LOG.append(1)
    else:
        warned = True
    return x


def takes_times(x):
    begin = time.perf_counter()
    try:
        return x
    finally:
        LOG.append(time.perf_counter() - begin)


def in_a_comprehension(x):
    return [LOG.append(one) or one for one in x]


def in_place_elsewhere(x):
    LOG.append(x)
    x.add_(1)
    return x


NOT_READ = [
    *(counts, counts_in_a_dict, fills_a_list_in_a_dict, fills_in_a_loop),
    *(keeps_the_last, shows, warns_once, warns_or_counts, takes_times),
    *(in_place_elsewhere, lambda x: LOG.insert(0, x)),
]


def outside(flow):
    own = {"x", "rows", "row", ""}
    return {path for path in flow.rebound | flow.changed if path[0] not in own}


@pytest.mark.parametrize("function", NOT_READ, ids=lambda one: one.__name__)
def test_what_flows_nowhere_is_not_read(function):
    flow = flow_of(function.__code__)
    written = outside(flow)
    assert written
    assert not [path for path in written if flow.is_read(path)]


def returns(x):
    STATE["n"] = 1
    return STATE["scale"] + x


def multiplies(x):
    STATE["n"] += 1
    return x * STATE["scale"]


def numbers(x):
    return STATE.setdefault(x, len(STATE))


def remembers(x):
    if x not in STATE:
        STATE[x] = x + 1
    return STATE[x]


def remembers_by_an_error(x):
    try:
        STATE[x]
    except KeyError:
        STATE[x] = 1
        return x
    return -x


def decides(x):
    if STATE:
        x = x + 1
    STATE["n"] = 1
    return x


def chooses(x):
    STATE["n"] = 1
    return x * (2 if STATE["n"] else 3)


def chooses_by_or(x):
    STATE["n"] = 1
    return STATE["n"] or x


def leaves_early(x):
    if STATE:
        return
    STATE["n"] = 1
    x.add_(1)
    return


def skips(rows):
    found = []
    for row in rows:
        if row in STATE:
            continue
        STATE[row] = 1
        found.append(row)
    return found


def by_another_name(x):
    STATE["n"] = 1
    state = STATE
    return x * state["n"]


def into_the_row(x):
    LOG.append(1)
    x.add_(len(LOG))
    x[0] = 1
    return x


def into_a_list(x):
    LOG.append(1)
    found = []
    found.append(len(LOG) + x)
    return found


def raises(x):
    LOG.append(1)
    assert len(LOG) < 5
    return x


def to_a_call(x):
    STATE["n"] = 1
    return divmod(x, STATE)


def in_a_loop(x):
    LOG.append(x)
    while len(LOG) > 3:
        x = x + 1
        LOG.pop()
    return x


def by_an_attribute(x):
    STATE.n = 1
    return x * STATE.n


READ = [
    *(returns, multiplies, numbers, remembers, remembers_by_an_error, decides),
    *(chooses, chooses_by_or, leaves_early, skips, by_another_name, into_the_row),
    *(into_a_list, raises, to_a_call, in_a_loop, by_an_attribute),
]


@pytest.mark.parametrize("function", READ, ids=lambda one: one.__name__)
def test_what_decides_anything_is_read(function):
    flow = flow_of(function.__code__)
    assert [path for path in outside(flow) if flow.is_read(path)]


def test_a_result_of_a_change_is_an_answer_if_it_is_used():
    assert flow_of(in_a_comprehension.__code__).answered == {("LOG",)}
    assert flow_of(shows.__code__).answered == set()


def test_attributes_of_the_first_argument_are_followed():
    def method(self, other):
        self.calls.append(other)
        self.last = other
        self.table[other] = 1
        self.n += self.step
        return self.read

    flow = flow_of(method.__code__)
    written = {path[1] for path in flow.rebound | flow.changed}
    assert written == {"calls", "last", "table", "n"}
    assert {path for path in flow.read if path[0] == "self"} == {("self", "read")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LOAD_FAST_LOAD_FAST", [("log",), ("top",), ("a",), ("b",)]),
        ("LOAD_FAST_BORROW_LOAD_FAST_BORROW", [("log",), ("top",), ("a",), ("b",)]),
        ("STORE_FAST_LOAD_FAST", [("log",), ("b",)]),
        ("STORE_FAST_STORE_FAST", []),
    ],
)
def test_two_steps_in_one_are_followed(name, expected):
    """As Python 3.13 and later write them; so `self.last = x` loads both at once."""
    follower = _flow._Follower((lambda: 0).__code__)
    follower._load(("log",))
    follower._load(("top",))
    follower._two(name, ("a", "b"))
    assert [value.path for value in follower._stack] == expected


def test_a_closure_in_one_instruction_reads_nothing():
    """As Python 3.13 makes inner functions."""
    follower = _flow._Follower((lambda: 0).__code__)
    follower._load(("log",))
    step = types.SimpleNamespace(
        opname="SET_FUNCTION_ATTRIBUTE", arg=8, opcode=0, argval=8
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_flow.dis, "stack_effect", lambda *_, **__: -1)
        follower._take(step, 0)
    assert follower._flow.read == set()


def test_a_function_is_followed_once():
    assert flow_of(counts.__code__) is flow_of(functools.partial(counts).func.__code__)
