"""`python -m voicegate` is the `voicegate` command."""

import sys

from voicegate.cli import main

if __name__ == "__main__":
    sys.exit(main())
