"""`tlvision train CONFIG [--set k=v …] [--resume RUN]`."""

from __future__ import annotations

import argparse

from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", nargs="?", help="a YAML file; with --resume, the run's own is used")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override a key; the value is YAML, for example --set train.lr=2e-4 'hooks=[{freeze: {roles: [stem]}}]'",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its last checkpoint")


def run(options: argparse.Namespace) -> None:
    """Train."""
    if options.config is None and options.resume is None:
        raise InputError("train: give a config, or --resume and the folder of a run")
    if options.config is not None and options.resume is not None:
        raise InputError("train: --resume goes by the run's own config.yaml; leave the config out")
    from tlvision.engine.train import train

    train(options.config or "", options.set, resume=options.resume)
