"""Name the errors of a program that deploys: always the program's own fault, never AWS's.

BadOption          an argument of a component has a value that it cannot have
└── BadPackage     a function's code cannot be packaged
"""

import pulumi


class BadOption(pulumi.RunError, ValueError):
    """An argument of a component has a value that it cannot have. Nothing has been created."""


class BadPackage(BadOption):
    """A function's code cannot be packaged: a module, a function or a wheel is missing."""
