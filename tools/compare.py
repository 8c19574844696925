"""`tlvision compare` as a script: python tools/compare.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["compare", *sys.argv[1:]]))
