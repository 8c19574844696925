"""`tlvision evaluate` as a script: python tools/evaluate.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
