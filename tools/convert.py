"""`tlvision convert` as a script: python tools/convert.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["convert", *sys.argv[1:]]))
