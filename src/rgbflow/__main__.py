"""`python -m rgbflow`, and so `torchrun -m rgbflow`: the same as the command `rgbflow`."""

import sys

from rgbflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
