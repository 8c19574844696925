"""`tlvision seeds` as a script: python tools/seeds.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["seeds", *sys.argv[1:]]))
