"""`tlvision learning-curve` as a script: python tools/learning-curve.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["learning-curve", *sys.argv[1:]]))
