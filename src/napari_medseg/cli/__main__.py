"""`python -m napari_medseg.cli`, for where the script is not on the path."""

from __future__ import annotations

import sys

from napari_medseg.cli.parser import main

sys.exit(main())
