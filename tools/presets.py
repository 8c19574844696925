"""`tlvision presets` as a script: python tools/presets.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["presets", *sys.argv[1:]]))
