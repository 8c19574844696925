"""`tlvision tune` as a script: python tools/tune.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["tune", *sys.argv[1:]]))
