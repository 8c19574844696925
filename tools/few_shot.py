"""`tlvision few-shot` as a script: python tools/few-shot.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["few-shot", *sys.argv[1:]]))
