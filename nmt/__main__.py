"""`python -m nmt` does what `nmt` does."""

import sys

from nmt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
