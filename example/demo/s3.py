"""S3 on loopback, which counts requests for objects and can keep readers waiting."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class S3Server:
    """A context manager. `requests` counts those that arrived, by method ("PUT", "GET").

    While `reading_allowed` is unset, GET requests wait; the first one sets `reading`.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.requests: Counter[str] = Counter()
        self.reading = Event()
        self.reading_allowed = Event()
        self.reading_allowed.set()
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=_QuietHandler
        )
        self._thread = Thread(target=self._server.serve_forever, name="s3", daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def environment(self) -> dict[str, str]:
        """What a boto3 client needs to find this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.address,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "BUCKET": self.bucket,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._make_bucket()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _make_bucket(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        try:
            connection.request("PUT", f"/{self.bucket}")
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"the bucket could not be created: {response.read()!r}")
        finally:
            connection.close()

    def _close(self) -> None:
        self.reading_allowed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if environ["PATH_INFO"].startswith(f"/{self.bucket}/"):
            self.requests[method] += 1
            if method == "GET":
                self.reading.set()
                self.reading_allowed.wait()
        return self._s3(environ, start)


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the demo tells the story."""
