"""`tlvision new-hook` as a script: python tools/new_hook.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["new-hook", *sys.argv[1:]]))
