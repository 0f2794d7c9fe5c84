"""``python -m permdoctor``."""

import sys

from permdoctor.cli import main

sys.exit(main())
