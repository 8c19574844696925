"""`tlvision compress` as a script: python tools/compress.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["compress", *sys.argv[1:]]))
