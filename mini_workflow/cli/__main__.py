"""`python -m mini_workflow.cli`, for debuggers that start a module."""

from mini_workflow.cli import main

if __name__ == "__main__":
    main()
