"""Settings that hold for every test."""

import os

from hypothesis import settings

# No deadline and no database: the machine may be busy, and a test leaves nothing behind. What
# fails prints how to reproduce it. In CI the same commit must always give the same answer.
settings.register_profile("explore", deadline=None, database=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("explore"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "explore")
