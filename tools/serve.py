"""`tlvision serve` as a script: python tools/serve.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["serve", *sys.argv[1:]]))
