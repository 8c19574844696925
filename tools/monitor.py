"""`tlvision monitor` as a script: python tools/monitor.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["monitor", *sys.argv[1:]]))
