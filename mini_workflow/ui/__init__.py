"""Show executions in a browser, and carry out the requests of a person.

`app` is an ASGI application, to be mounted in another one; `mini-workflow ui` serves it alone. Needs the
extra ``mini-workflow[ui]``.
"""

from mini_workflow.ui.app import app

__all__ = ["app"]
