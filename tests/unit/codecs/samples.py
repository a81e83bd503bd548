"""Classes and functions that the tests of the codecs import, as user code would define them."""

import collections
import enum
import functools
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass


class Color(enum.Enum):
    RED = "red"
    GREEN = ("g", 1)
    CRIMSON = "red"  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(enum.StrEnum):
    ANN = "ann"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Text(str):  # noqa: SLOT000
    pass


class Count(int):
    pass


class Items(list):
    pass


class Table(dict):
    pass


class Point(NamedTuple):
    x: int
    y: Any = 0


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024


@dataclass
class Order:
    id: str
    items: list[Any] = field(default_factory=list)
    total: int = field(default=0, init=False)
    kind: ClassVar[str] = "order"


@dataclass(frozen=True, slots=True)
class Money:
    amount: Any
    currency: str = "EUR"


@dataclass(kw_only=True, eq=True)
class Nested:
    order: Order
    price: Money | None = None
    more: Any = None


@dataclass
class Checked:
    """Its constructor must not run again: it would double the value."""

    value: int

    def __post_init__(self):
        self.value *= 2


class Celsius:
    """The parts of a field that is a property."""

    def read(self):
        return self._degrees

    def write(self, degrees):
        if degrees < -273:
            raise ValueError("it is not so cold")
        self._degrees = degrees


@dataclass
class Weather(Celsius):
    """Its field is a property, which was given to the class afterwards."""

    degrees: float


Weather.degrees = property(Celsius.read, Celsius.write)


@dataclass
class Climate(Celsius):
    """Its field is a property, which dataclass takes for the default."""

    degrees: float
    degrees = property(Celsius.read, Celsius.write)  # noqa: PIE794


@dataclass
class Tagged(dict):
    """A dataclass with contents of its own."""

    label: str = ""

    def __hash__(self):
        return 0


class Customer(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    age: int = Field(default=1, ge=0)
    tags: set[str] = set()
    _secret: Any = PrivateAttr(default=None)


class Account(BaseModel):
    owner: Customer
    balance: Any = None


class Names(RootModel[list[str]]):
    """A model of one value without a name."""


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]


IntPage = Page[int]


@pydantic_dataclass
class Measured:
    value: float
    unit: str = "m"


class Failing:
    """Its own code fails when it is looked at."""

    def __reduce__(self):
        raise RuntimeError("dictionary changed size during iteration")


class Box:
    """An ordinary class."""

    def __init__(self, content=None):
        self.content = content

    def __eq__(self, other):
        return type(other) is type(self) and other.content == self.content

    __hash__ = None

    def get(self):
        return self.content

    def __private(self):
        return ("private", self.content)

    def private(self):
        return self.__private


class Slotted:
    __slots__ = ("content",)

    def __init__(self, content):
        self.content = content


class Guarded:
    """Pickles itself without its lock, which is its right."""

    def __init__(self):
        self.lock = threading.Lock()
        self.value = 1

    def __getstate__(self):
        return {"value": self.value}

    def __setstate__(self, state):
        self.__init__()
        self.value = state["value"]


class Context:
    __mini_workflow_refused__ = "the workflow's context"


class Client:
    """Cannot be pickled, and says so late."""

    def __reduce__(self):
        raise TypeError("a connection has no copy")


LOCK = threading.Lock()
COUNTER = {"calls": 0}


def double(n):
    return 2 * n


async def double_async(n):
    return 2 * n


def bump():
    COUNTER["calls"] += 1
    return COUNTER["calls"]


def uses_globals(n):
    """Makes a closure over module globals that no pickler could take."""

    def run():
        with LOCK:
            COUNTER["calls"] += n
        return COUNTER["calls"]

    return run


@functools.lru_cache
def cached(n):
    return n


class PlainError(Exception):
    pass


class OwnInitError(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class KeywordOnlyError(Exception):
    def __init__(self, *, reason):
        super().__init__()
        self.reason = reason

    def __str__(self):
        return f"because {self.reason}"


class ClientError(Exception):
    """As in a well-known SDK."""

    def __init__(self, error_response, operation_name):
        super().__init__(f"{operation_name}: {error_response['Error']['Code']}")
        self.response = error_response
        self.operation_name = operation_name


class HoldsLockError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__()
        self.code = code


class BadStrError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class ParseError(OSError):
    def __init__(self, path, line):
        super().__init__(5, "bad line", path)
        self.line = line


class ThrottledError(Exception):
    def __init__(self, message, retry_after):
        super().__init__(message, retry_after)
        self.retry_after = retry_after
