"""The functions of the example on AWS. `__main__.py` at the top of the project deploys them.

- `POST /` with `{"key": "...", "data": "..."}` starts an upload; an `"id"` makes it idempotent.
- `GET /<id>` tells its status, and its result when there is one.
"""

from http import HTTPStatus
from typing import Any

from example.http_events import answer, body_of
from example.workflow import upload_object
from mini_workflow import AWSRuntime, ExecutionNotFound, InvalidIdentifier

runtime = AWSRuntime.from_env()

orchestrate = runtime.orchestrate
execute = runtime.execute


def api(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request to the function's URL."""
    method = event["requestContext"]["http"]["method"]
    name = event.get("rawPath", "/").strip("/")
    if method == "POST" and not name:
        return _start(event)
    if method == "GET" and name:
        return _tell(name)
    return answer(HTTPStatus.NOT_FOUND, error="POST an object to /, or GET /<id of an execution>")


def _start(event: dict[str, Any]) -> dict[str, Any]:
    try:
        wanted = body_of(event)
        key, data, name = wanted["key"], wanted["data"], wanted.get("id")
        execution = runtime.start_execution(upload_object, key, data, id=name)
    except (ValueError, TypeError, KeyError, InvalidIdentifier) as error:
        return answer(HTTPStatus.BAD_REQUEST, error=f"{type(error).__name__}: {error}")
    return answer(HTTPStatus.ACCEPTED, id=execution.id)


def _tell(name: str) -> dict[str, Any]:
    try:
        execution = runtime.get_execution(name)
        status = execution.describe().status
    except (ExecutionNotFound, InvalidIdentifier) as error:
        return answer(HTTPStatus.NOT_FOUND, error=str(error))
    if status != "completed":
        return answer(HTTPStatus.OK, id=name, status=status)
    return answer(HTTPStatus.OK, id=name, status=status, result=execution.result(timeout=5))
