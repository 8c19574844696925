"""`tlvision stress` as a script: python tools/stress.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["stress", *sys.argv[1:]]))
