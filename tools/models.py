"""`tlvision models` as a script: python tools/models.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["models", *sys.argv[1:]]))
