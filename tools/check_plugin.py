"""`tlvision check-plugin` as a script: python tools/check_plugin.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["check-plugin", *sys.argv[1:]]))
