"""`tlvision check-hook` as a script: python tools/check_hook.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["check-hook", *sys.argv[1:]]))
