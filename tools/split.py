"""`tlvision split` as a script: python tools/split.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["split", *sys.argv[1:]]))
