"""`python -m transfer` is the command `transfer`."""

import sys

from transfer.cli import main

sys.exit(main())
