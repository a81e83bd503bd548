"""stream: what an execution and its tasks have written, now or until it has closed."""

import json

from tests.unit.cli.world import World


def test_stream_prints_what_there_is(served: World) -> None:
    served("start", "cli_flows:speaking", "--id", "speaks")
    followed = served("stream", "speaks", "words", "--follow")
    assert followed.out.splitlines() == ["begun", "1", '{"two": 2}', "done"]
    assert served("stream", "speaks", "words").out == followed.out
    lines = served("stream", "speaks", "words", "--after", "2", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"offset": 3, "value": {"two": 2}, "source": 1, "attempt": 1, "restarts": False},
        {"offset": 4, "value": "done", "source": 0, "attempt": 1, "restarts": False},
    ]


def test_stream_says_what_is_not_there(served: World) -> None:
    served("start", "cli_flows:speaking", "--id", "spoke")
    served("result", "spoke")
    told = served("stream", "spoke", "word")
    assert told.out == ""
    assert "no stream 'word'; there are: words" in told.err
    assert "'nobody'" in served("stream", "nobody", "words", status=3).err
    assert "name of a stream" in served("stream", "spoke", "no/name", status=2).err
