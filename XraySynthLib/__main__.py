"""`python -m XraySynthLib VERB` is `xraysynth VERB`."""

import sys

from XraySynthLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
