"""What has to be pickled is signed for its execution, and crosses every door of it."""

import pytest

from mini_workflow import Context, RetryPolicy, current_task, workflow
from mini_workflow.errors import ChildFailed, SignatureInvalid
from mini_workflow.testing import check_replay
from tests.aws.cloud import Deployed
from tests.aws.in_process import InProcessCloud
from tests.waiting import WAIT, eventually


class Plain:
    """Neither a dataclass nor a model, so that it goes as a signed pickle."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return type(other) is Plain and other.text == self.text

    def __hash__(self):
        return hash(self.text)

    def __add__(self, more):
        return Plain(self.text + more)


class Rude(Exception):
    def __init__(self, value):
        super().__init__("no")
        self.value = value


def beat(value):
    task = current_task()
    if task.attempt == 1:
        task.heartbeat(value + "-beat")
        raise ConnectionError
    return task.last_heartbeat


def fail(value):
    raise Rude(value + "-task")


@workflow("signed_child")
async def child(ctx: Context, given: Plain) -> Plain:
    got = await ctx.wait_for_signal("more")
    if got.text.startswith("fail"):
        raise Rude(given + got.text)
    return given + got.text


@workflow("signed_values")
async def flow(ctx: Context, given: Plain, *, seen: list[Plain] | None = None) -> list[Plain]:
    if seen is None:
        seen = [given]
        ctx.continue_as_new(given + "-next", seen=seen)
    got = [*seen, given]
    ctx.on_query("got", lambda more: [*got, more])

    async def add(more: Plain) -> Plain:
        if more.text == "refuse":
            raise Rude(more)
        got.append(more)
        return more + "-added"

    ctx.on_update("add", add)
    got.append(await ctx.wait_for_signal("start"))
    promise = ctx.promise()
    await ctx.task(tell, promise.token)
    got.append(await promise)
    got.append(
        await ctx.task(beat, given, retry=RetryPolicy(initial=0, retry_on=(ConnectionError,)))
    )
    try:
        await ctx.task(fail, given)
    except Rude as error:
        got.append(error.value)
    good, bad = ctx.child(child, given), ctx.child(child, given, id="bad-child")
    good.signal("more", Plain("-good"))
    ctx.execution("bad-child").signal("more", Plain("fail"))
    got.append(await good)
    try:
        await bad
    except ChildFailed as error:
        got.append(error.__cause__.value)
    await ctx.wait_for(lambda: Plain("last") in got)
    return got


TOKENS = []


def tell(token):
    TOKENS.append(token)


def test_pickled_values_cross_every_door_of_their_execution_and_no_other():
    cloud = InProcessCloud()
    try:
        with Deployed(cloud, cache_size=1) as runtime:
            TOKENS.clear()
            one = runtime.start_execution(flow, Plain("a"), id="one")
            one.signal("start", Plain("signal"))
            eventually(lambda: TOKENS)
            runtime.complete_promise(TOKENS[0], Plain("promise"))
            assert one.query("got", Plain("asked"))[-1] == Plain("asked")
            with pytest.raises(Rude) as refused:
                one.update("add", Plain("refuse"), timeout=WAIT)
            assert refused.value.value == Plain("refuse")
            assert one.update("add", Plain("last"), timeout=WAIT) == Plain("last-added")
            result = one.result(timeout=WAIT)
            expected = {"a", "a-next", "signal", "promise", "a-next-beat", "a-next-task", "last"}
            expected |= {"a-next-good", "a-nextfail"}
            assert {value.text for value in result} == expected
            assert "Unreadable" not in repr([entry.values for entry in one.timeline(trust=True)])
            check_replay(one, trust=True)
            closing = one.history()[-1]
            assert one.codec.decode(closing.result) == result
            with pytest.raises(
                SignatureInvalid, match=r"'bad-child' was .* made for something else"
            ):
                one.codec.for_execution("bad-child").decode(closing.result)
    finally:
        cloud.close()
