"""`tlvision show` as a script: python tools/show.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["show", *sys.argv[1:]]))
