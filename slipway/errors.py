"""The two errors that a user is meant to read. Commands print them without a traceback."""


class UserError(Exception):
    """A mistake of the user: one sentence that names the place, one that says how to mend it.

    Commands and pipeline steps print it without a traceback and exit with code 2.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem} {fix}".strip())
        self.problem = problem
        self.fix = fix


class Fault(RuntimeError):
    """Something outside failed, told in a sentence; the same command may succeed later.

    Commands exit with code 1.
    """
