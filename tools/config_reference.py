"""`tlvision config-reference` as a script: python tools/config_reference.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["config-reference", *sys.argv[1:]]))
