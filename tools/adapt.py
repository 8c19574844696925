"""`tlvision adapt` as a script: python tools/adapt.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["adapt", *sys.argv[1:]]))
