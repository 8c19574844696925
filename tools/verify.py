"""`tlvision verify` as a script: python tools/verify.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["verify", *sys.argv[1:]]))
