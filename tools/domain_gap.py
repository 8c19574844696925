"""`tlvision domain-gap` as a script: python tools/domain_gap.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["domain-gap", *sys.argv[1:]]))
