"""``python -m effboost``: the same as the ``effboost`` command."""

import sys

from effboost.cli import main

sys.exit(main())
