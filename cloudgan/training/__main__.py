"""`python -m cloudgan.training`: `cloudgan-train`, or `temporal ...` for the generator that sees time."""

from __future__ import annotations

import sys

from cloudgan.training import cli


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["temporal"]:  # it has a command line of its own
        from cloudgan.training import temporal_run

        cli.log_to_stderr()
        return temporal_run.main(given[1:])
    return cli.main(given)


if __name__ == "__main__":
    sys.exit(main())
