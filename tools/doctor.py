"""`tlvision doctor` as a script: python tools/doctor.py …"""

import sys

from tlvision.cli.main import main

sys.exit(main(["doctor", *sys.argv[1:]]))
