"""The command `ui`: serve the pages that show executions in a browser."""

from __future__ import annotations

import secrets
import socket
import sys
from contextlib import closing
from typing import Any, Final

import click

from mini_workflow.cli.commands.doctor import examine
from mini_workflow.cli.commands.run import prepare_logging
from mini_workflow.cli.failures import UNAVAILABLE, Failed
from mini_workflow.cli.output import note, say, say_json
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.errors import UsageError

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
"""The addresses that only this machine reaches."""

EXTRA: Final = "the pages need Starlette, uvicorn and Jinja2: run pip install 'mini-workflow[ui]'"


@command(
    "ui",
    "mini-workflow ui",
    "mini-workflow ui --port 8080 --read-only",
    "mini-workflow --backend aws --stack prod ui --port 0",
)
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8233,
    show_default=True,
    help="The port; 0 for any that is free.",
)
@click.option("--read-only", is_flag=True, help="Show no actions, and refuse all changes.")
@click.option(
    "--token", default="", metavar="TEXT", help="A secret that each visitor has to give once."
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A host name by which the page is reached, besides localhost; may be repeated.",
)
@click.option(
    "--root-path", default="", metavar="PATH", help="The path below which a proxy serves the page."
)
@click.option(
    "--user-header",
    default="",
    metavar="NAME",
    help="The header with which a proxy names the visitor; the name is recorded with each change.",
)
@json_option
@pass_session
def ui(
    session: Session,
    modules: tuple[str, ...],
    host: str,
    port: int,
    read_only: bool,
    token: str,
    host_names: tuple[str, ...],
    root_path: str,
    user_header: str,
    as_json: bool,
) -> None:
    """Show executions in a browser, and act on them.

    The page is a client of the store: it runs no workflow and no task, and loads no stored value. Name
    the MODULEs of workflows to have their queries answered, by a replay in this process.

    The page is for this machine alone. With --host for another address it asks visitors for a token: that
    of --token, or a random one that is printed. Put a proxy with TLS in front of it.
    """
    try:
        import uvicorn

        from mini_workflow.ui import app
    except ModuleNotFoundError as error:
        raise Failed(f"{EXTRA} ({error})", UNAVAILABLE) from error
    if root_path and not root_path.startswith("/"):
        raise UsageError(f"--root-path {root_path!r}: begin it with a slash, as in /workflows")
    root_path = root_path.rstrip("/")
    if not token and host not in LOOPBACK:
        token = secrets.token_urlsafe(18)
    session.import_modules(*modules)
    prepare_logging()  # why something was deleted, and by whom, is said there alone
    opened = session.backend.reader() if read_only else session.backend.client()
    with opened as client, closing(listen(host, port)) as listening:
        served: Any = app(
            client,
            read_only=read_only,
            token=token,
            hosts=(*host_names, *([host] if host not in ("0.0.0.0", "::") else [])),
            user_header=user_header,
            name=session.backend.place,
            doctor=lambda: examine(session),
        )
        at = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{at}{root_path}/" + (f"?token={token}" if token else "")
        if as_json:
            say_json({"url": url})
        else:
            say(url)
            note("Ctrl-C ends it; executions go on")
        sys.stdout.flush()
        site = at_path(served, root_path) if root_path else served
        config = uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])


def at_path(served: Any, root: str) -> Any:
    """Return pages that answer below a path, whether a proxy removes it from requests or leaves it there.

    If a page has the same name as the path, the proxy has to remove the path: the two look the same.
    """
    own = {route.path.split("/")[1] for route in served.routes}
    is_taken_off = root.split("/")[1] in own

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            left = path == root or path.startswith(f"{root}/")
            if is_taken_off or not left:
                path = f"{root}{path}"
            elif path == root:
                path = f"{root}/"
            scope = {**scope, "root_path": root, "path": path}
        await served(scope, receive, send)

    return answer


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address. Raises Failed if that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # so that requests are accepted as soon as the address is printed
    except OSError as error:
        listening.close()
        raise Failed(
            f"--host {host} --port {port}: {error.strerror}. Choose another one, or --port 0 for any "
            "that is free",
            UNAVAILABLE,
        ) from error
    return listening


COMMANDS: Final = (ui,)
