"""python -m tests.exercises"""

import sys

from tests.exercises.cli import main

sys.exit(main())
