"""`tlvision predict` as a script: python tools/predict.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["predict", *sys.argv[1:]]))
