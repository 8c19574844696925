"""`tlvision hooks` as a script: python tools/hooks.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["hooks", *sys.argv[1:]]))
