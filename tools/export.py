"""`tlvision export` as a script: python tools/export.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["export", *sys.argv[1:]]))
