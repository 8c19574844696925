"""`tlvision train` as a script: python tools/train.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
