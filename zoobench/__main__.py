"""``python -m zoobench`` is the ``zoobench`` command."""

from __future__ import annotations

import sys

from zoobench.cli import main

sys.exit(main())
