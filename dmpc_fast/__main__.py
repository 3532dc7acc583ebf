"""`python -m dmpc_fast` is the command `dmpc-fast`."""

import sys

from dmpc_fast.cli.main import main

sys.exit(main())
