"""`python -m generators` is the program `inkling`."""
import sys

from generators.cli import main

sys.exit(main())
