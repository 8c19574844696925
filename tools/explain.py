"""`tlvision explain` as a script: python tools/explain.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["explain", *sys.argv[1:]]))
