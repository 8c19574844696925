"""`tlvision train CONFIG [--with NAME …] [--set k=v …] [--resume RUN] [--until EPOCH]`."""

from __future__ import annotations

import argparse

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", nargs="?", help=f"{CONFIG}; with --resume, the run's own is used")
    add_composition(parser)
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its last checkpoint")
    parser.add_argument("--until", type=int, metavar="EPOCH", help="stop after this epoch; --resume goes on from there")


def run(options: argparse.Namespace) -> None:
    """Train."""
    if options.config is None and options.resume is None:
        raise InputError("train: give a config, or --resume and the folder of a run")
    if options.config is not None and options.resume is not None:
        raise InputError("train: --resume uses the run's own config.yaml. Remove the config.")
    if options.extra and options.resume is not None:
        raise InputError("train: --resume uses the run's own config.yaml. Remove --with.")
    from tlvision.engine.train import train

    train(options.config or "", options.set, options.extra, resume=options.resume, until=options.until)
