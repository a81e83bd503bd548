"""What a script has stored is found by what imports it, and the other way round."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from mini_workflow.class_names import current_name, main_name, name_of
from tests.waiting import WAIT

SHOP = """
import dataclasses, enum, sys
from mini_workflow import Context, LocalClient, LocalRuntime, RetryPolicy, workflow
from mini_workflow.codecs import StandardCodec
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload

CODEC = StandardCodec()

@dataclasses.dataclass
class Order:
    number: int

class Color(enum.Enum):
    RED = 1

class Plain:
    def __init__(self, number):
        self.number = number

class Boom(Exception):
    pass

def double(number):
    return 2 * number

def write():
    values = CODEC.encode([Order(1), Color.RED, Plain(2), double, Plain], "result").text
    call = CODEC.capture(lambda given: (type(given) is Order, double(2), __name__), (Order(3),), {})
    failure = CODEC.encode_failure(Boom("no")).to_plain()
    return {"values": values, "call": call.hex(), "failure": failure, "name": __name__}

def read(written):
    order, color, plain, function, kind = CODEC.decode(Payload(text=written["values"]))
    call, args, kwargs = CODEC.restore(bytes.fromhex(written["call"]))
    error = CODEC.decode_failure(Failure.from_plain(written["failure"]))
    return [
        order == Order(1), color is Color.RED, type(plain) is kind is Plain, function is double,
        call(*args, **kwargs) == (True, 4, __name__), type(error) is Boom, __name__,
    ]

@workflow
async def ship(ctx: Context, order: Order) -> list[object]:
    tried = []

    def deliver(given):
        current = __import__("mini_workflow").current_task()
        if current.attempt == 1:
            raise Boom("no")
        return [Order(given.number + 1), current.attempt]

    policy = RetryPolicy(max_attempts=2, initial=0, retry_on=(Boom,))
    await ctx.wait_for_signal("go")
    return await ctx.task(deliver, order, retry=policy)

def serve(path, workers):
    with LocalRuntime(path, workers=int(workers)) as runtime:
        execution = runtime.start_execution(ship, Order(7), id="o-7")
        print("serving", flush=True)
        print(execution.result() == [Order(8), 2], flush=True)

if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
"""
READ = "import json, sys; print(json.dumps(shop.read(json.load(sys.stdin))))"
WRITE = "import json; print(json.dumps(shop.write()))"
AS_SCRIPT = "if __name__ == '__main__':\n    import sys\n    shop = sys.modules['__main__']\n"
ENV = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[3])}


def run(folder, *command, given=""):
    ran = subprocess.run(
        [sys.executable, *command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
        cwd=folder,
        env=ENV,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class Program:
    """The shop's code in a folder, as a script that does one thing, and as a module."""

    def __init__(self, folder, name="shop"):
        self.folder = folder
        self.name = name

    def as_script(self, what, given="", *, first=""):
        code, _, _ = SHOP.partition("if __name__")
        indented = AS_SCRIPT + "\n".join(f"    {line}" for line in what.splitlines())
        (self.folder / f"{self.name}.py").write_text(f"{code}{first}\n{indented}\n")
        return json.loads(run(self.folder, f"{self.name}.py", given=given))

    def as_module(self, what, given=""):
        return json.loads(
            run(self.folder, "-c", f"import {self.name} as shop\n{what}", given=given)
        )


def test_a_script_is_read_by_what_imports_it_and_the_other_way_round(tmp_path):
    program = Program(tmp_path)
    by_script = program.as_script(WRITE)
    by_module = program.as_module(WRITE)
    typed = [json.loads(written["values"])[:2] for written in (by_script, by_module)]
    assert typed[0] == typed[1]
    assert by_script["failure"]["type"] == "shop:Boom"
    assert "__main__" not in by_script["values"]
    for written in by_script, by_module:
        assert program.as_module(READ, json.dumps(written)) == [True] * 6 + ["shop"]
        assert program.as_script(READ, json.dumps(written)) == [True] * 6 + ["__main__"]


def test_a_script_reads_what_was_written_under_the_name_main(tmp_path):
    program = Program(tmp_path, "my-shop")  # no module can have that name
    written = program.as_script(WRITE)
    assert written["failure"]["type"] == "__main__:Boom"
    assert Program(tmp_path).as_script(READ, json.dumps(written)) == [True] * 6 + ["__main__"]


def test_a_script_that_is_imported_as_well_is_not_confused_with_the_module(tmp_path):
    program = Program(tmp_path)
    again = "if __name__ == '__main__':\n    import shop as other\n    assert other.Order is not Order\n"
    written = program.as_script(WRITE, first=again)
    assert written["failure"]["type"] == "__main__:Boom"
    assert program.as_script(READ, json.dumps(written), first=again) == [True] * 6 + ["__main__"]
    theirs = program.as_script(WRITE.replace("shop", "other"), first=again)
    assert theirs["failure"]["type"] == "shop:Boom"
    answer = program.as_script(READ.replace("shop.", "other."), json.dumps(theirs), first=again)
    assert answer == [True] * 6 + ["shop"]


def test_a_module_that_is_run_goes_by_its_name(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    program = Program(package)
    program.as_script(WRITE)
    written = json.loads(run(tmp_path, "-m", "pack.shop"))
    assert written["failure"]["type"] == "pack.shop:Boom"
    read = f"import pack.shop as shop\n{READ}"
    answer = json.loads(run(tmp_path, "-c", read, given=json.dumps(written)))
    assert answer == [True] * 6 + ["pack.shop"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_execution_of_a_script_goes_on_where_it_is_imported(workers, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    state = str(tmp_path / "state.db")
    process = subprocess.Popen(
        [sys.executable, "shop.py", "serve", state, str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENV,
    )
    try:
        assert process.stdout.readline() == "serving\n"
    finally:
        process.kill()
        process.communicate()
    go_on = (
        "import shop, sys\n"
        "client = shop.LocalClient(sys.argv[1])\n"
        "again = client.start_execution(shop.ship, shop.Order(7), id='o-7')\n"
        "again.signal('go')\n"
        "shop.serve(sys.argv[1], 0)\n"
        "print(again.result() == [shop.Order(8), 2])\n"
    )
    assert run(tmp_path, "-c", go_on, state).split() == ["serving", "True", "True"]


def test_a_script_and_its_worker_processes_agree_on_names(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    state = str(tmp_path / "state.db")
    ask = "import shop, sys; shop.LocalClient(sys.argv[1]).get_execution('o-7').signal('go')"
    process = subprocess.Popen(
        [sys.executable, "shop.py", "serve", state, "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENV,
    )
    try:
        assert process.stdout.readline() == "serving\n"
        run(tmp_path, "-c", ask, state)
        assert process.stdout.readline() == "True\n"
    finally:
        process.kill()
        process.communicate()
    told = f"import shop\nwith shop.LocalClient({state!r}) as c:\n    print(c.get_execution('o-7').result())"
    assert run(tmp_path, "-c", told) == "[Order(number=8), 2]\n"


def test_names_of_this_process():
    assert name_of(ValueError) == "builtins:ValueError"
    assert current_name("builtins:ValueError") == "builtins:ValueError"
    assert current_name("__main__:Order") == f"{main_name()}:Order"
    assert current_name("__mp_main__:Order") == f"{main_name()}:Order"
