"""`tlvision merge` as a script: python tools/merge.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["merge", *sys.argv[1:]]))
