"""`python -m tlvision …`, for where the command is not on the path."""

import sys

from tlvision.cli.main import main

sys.exit(main())
