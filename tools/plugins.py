"""`tlvision plugins` as a script: python tools/plugins.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["plugins", *sys.argv[1:]]))
