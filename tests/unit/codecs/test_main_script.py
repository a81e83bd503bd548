"""What the main script defines is found in the processes that it starts."""

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.unit.codecs import samples
from tests.unit.codecs.crossing import CODEC
from tests.waiting import WAIT

SCRIPT = """
import multiprocessing, sys
from mini_workflow.codecs import StandardCodec
from dataclasses import dataclass

CODEC = StandardCodec()
STATE = {"where": "import"}
NAME = __name__

@dataclass
class Job:
    n: int

class MainError(Exception):
    def __init__(self, code, *, why):
        super().__init__(code)
        self.why = why

def helper(n):
    return n + 1

def note(where):
    STATE["where"] = where

def make(n):
    job = Job(n)
    def closure(argument):
        note("closure")
        return [helper(job.n), argument.n, type(argument) is Job, type(job) is Job,
                STATE["where"], NAME]
    return closure

def make_local(n):
    class Local:
        def run(self):
            note("local")
            return [helper(n), Job(n) == Job(n), STATE["where"], NAME]
    return Local()

def simple(n):
    return lambda: (note("simple"), helper(n), STATE["where"], NAME)[1:]

def fail():
    raise MainError(3, why="main")

def child(connection):
    while (payload := connection.recv_bytes()):
        function, args, kwargs = CODEC.restore(payload)
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            connection.send_bytes(repr(CODEC.encode_failure(error).to_plain()).encode())
        else:
            connection.send_bytes(CODEC.encode(result, "result").text.encode())

if __name__ == "__main__":
    import json
    from mini_workflow.core.failure import Failure
    from mini_workflow.core.payload import Payload
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    local = make_local(5)
    for name, call in {
        "closure": (make(1), (Job(7),)),
        "reference": (helper, (1,)),
        "simple": (simple(4), ()),
        "dill": (local.run, ()),
        "value": (Job, (9,)),
    }.items():
        ours.send_bytes(CODEC.capture(*call, {}))
        text = ours.recv_bytes().decode()
        value = CODEC.decode(Payload(text=text))
        print(json.dumps([name, value if name != "value" else [type(value) is Job, value.n]]))
    ours.send_bytes(CODEC.capture(fail, (), {}))
    failure = Failure.from_plain(eval(ours.recv_bytes().decode()))
    error = CODEC.decode_failure(failure)
    print(json.dumps(["failure", [type(error) is MainError, error.why, failure.lineage[0]]]))
    ours.send_bytes(b"")
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_the_main_script_is_found_in_its_children(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), method],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    name = "__main__" if method == "fork" else "__mp_main__"
    assert dict(map(json.loads, ran.stdout.splitlines())) == {
        "closure": [2, 7, True, True, "closure", name],
        "reference": 2,
        "simple": [5, "simple", name],
        "dill": [6, True, "local", name],
        "value": [True, 9],
        "failure": [True, "main", "script:MainError"],
    }


def test_bytes_do_not_depend_on_the_process(tmp_path):
    """A payload of this process is read by a fresh one that has imported nothing yet."""
    n = 20
    payload = CODEC.capture(lambda: samples.double(n) + 2, (), {})
    file = tmp_path / "payload"
    file.write_bytes(payload)
    code = (
        "import pathlib, sys; from mini_workflow.codecs import StandardCodec\n"
        f"call = StandardCodec().restore(pathlib.Path({str(file)!r}).read_bytes())\n"
        "print(call[0](*call[1], **call[2])); print('dill' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT,
        cwd=ROOT,
    )
    assert ran.stdout.split() == ["42", "False"]
