"""`tlvision cross-validate` as a script: python tools/cross-validate.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["cross-validate", *sys.argv[1:]]))
