"""``python -m effboost``, and the ``effboost`` command."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line, and end with one line if Ctrl-C interrupts its imports."""
    try:
        from effboost.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("effboost: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
