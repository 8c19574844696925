"""`tlvision new-plugin` as a script: python tools/new_plugin.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["new-plugin", *sys.argv[1:]]))
