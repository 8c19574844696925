"""`tlvision experiment` as a script: python tools/experiment.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["experiment", *sys.argv[1:]]))
