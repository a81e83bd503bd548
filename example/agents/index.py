"""The functions of the agent on AWS. `__main__.py` at the top of the project deploys them.

- `POST /` with `{"text": "..."}` asks the agent; an `"id"` makes it idempotent.
- `GET /<id>` tells its status, and its answer or what it wants to be allowed, with a token for each.
- `GET /<id>/events?after=<offset>` tells what it has said since then.
- `POST /approvals` with `{"token": "...", "allowed": true}` allows it.
"""

from http import HTTPStatus
from typing import Any

from example.agents.janitor import EVENTS, make_room, told
from example.http_events import answer, body_of
from mini_workflow import (
    AWSRuntime,
    ExecutionClosed,
    ExecutionNotFound,
    InvalidIdentifier,
    PromiseNotOpen,
)

runtime = AWSRuntime.from_env()

orchestrate = runtime.orchestrate
execute = runtime.execute


def api(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request to the function's URL."""
    route = event["requestContext"]["http"]["method"]
    name, _, rest = event.get("rawPath", "/").strip("/").partition("/")
    try:
        if (route, name) == ("POST", ""):
            return _ask(body_of(event))
        if (route, name, rest) == ("POST", "approvals", ""):
            return _allow(body_of(event))
        if route == "GET" and name and rest in ("", "events"):
            after = int((event.get("queryStringParameters") or {}).get("after", 0))
            return _tell(name, after if rest else None)
    except (ValueError, TypeError, KeyError, InvalidIdentifier) as error:
        return answer(HTTPStatus.BAD_REQUEST, error=f"{type(error).__name__}: {error}")
    except ExecutionNotFound as error:
        return answer(HTTPStatus.NOT_FOUND, error=str(error))
    except (PromiseNotOpen, ExecutionClosed) as error:
        return answer(HTTPStatus.CONFLICT, error=str(error))
    return answer(HTTPStatus.NOT_FOUND, error="POST a question to /, or GET /<id>")


def _ask(wanted: dict[str, Any]) -> dict[str, Any]:
    execution = runtime.start_execution(make_room, wanted["text"], id=wanted.get("id"))
    return answer(HTTPStatus.ACCEPTED, id=execution.id)


def _allow(wanted: dict[str, Any]) -> dict[str, Any]:
    runtime.complete_promise(wanted["token"], bool(wanted["allowed"]))
    return answer(HTTPStatus.OK)


def _tell(name: str, after: int | None) -> dict[str, Any]:
    execution = runtime.get_execution(name)
    if after is None:
        return answer(HTTPStatus.OK, **told(execution))
    said = execution.stream(EVENTS, after=after).read()
    return answer(HTTPStatus.OK, events=[[chunk.offset, chunk.value] for chunk in said])
