"""`tlvision VERB …`; `python tools/VERB.py …` is the same program.

Exit codes: 0 done, 1 the run failed or was interrupted, 2 wrong usage or input, 70 a bug in tlvision or a plugin (with
a report in a file; see `tlvision.cli.last_resort`). `monitor` ends with 1 for an alarm, 3 if there are too few records.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from tlvision.types import InputError, RunError

VERBS = {
    "train": "fine-tune a model with a config",
    "adapt": "compare domain-adaptation methods with source-only and oracle baselines over several seeds",
    "experiment": "run the trials of an experiment file, and compare them in one table",
    "seeds": "train a config with several seeds, and print the spread",
    "tune": "search values of a config on held-out training images, and train the best ones",
    "cross-validate": "train and measure a config on folds of its training images",
    "few-shot": "train a config on a few images of each class, drawn several times",
    "learning-curve": "train a config on shares of its images, from pretrained and from random weights",
    "evaluate": "measure a run, or a predictions file against ground truth",
    "compare": "compare runs or predictions files: which is better, and is the difference more than chance",
    "predict": "predict objects or label maps in images and videos with a trained run",
    "explain": "show as heat maps which parts of images a detection or a class depends on",
    "doctor": "examine the data of a config: what training refuses, what makes results wrong, what is worth a look",
    "convert": "read labels of YOLO, VOC, LabelMe, CVAT, Label Studio, Open Images or COCO, and write COCO or YOLO",
    "split": "divide a dataset by class, with groups and near-duplicates on one side, or into folds",
    "merge": "merge the low-rank updates of a run into plain weights",
    "show": "print weight report, groups, taps, ledger, phases and memory of a config, without training",
    "compress": "write a run as smaller and faster bundles (INT8), measure them side by side, and say which to take",
    "export": "write a run as a bundle for a product (ONNX, OpenVINO), and prove that it finds the same",
    "serve": "serve a bundle over HTTP, with a page to try it",
    "monitor": "compare logs of a bundle's predictions with its validation images, and choose images to label",
    "verify": "prove in a few steps of every phase that frozen parameters stay unchanged",
    "domain-gap": "measure the distance between two image sets for a model, and recommend methods",
    "stress": "measure how the metric of a run falls on corrupted images: blur, noise, fog, smaller objects and others",
    "check-plugin": "run the plugin conformance checks and print the results",
    "new-plugin": "write a working plugin package for a new model family",
    "check-hook": "run the hook conformance checks in small runs and print the results",
    "new-hook": "write a working hook package for a new transfer method",
    "models": "keep runs and bundles under names and versions, and fine-tune from one (library://name)",
    "plugins": "list the installed model families",
    "config-reference": "print every key of a config with type, limits, default and description",
    "presets": "list or print the configs that come with tlvision: model families, methods, data",
    "hooks": "list the installed transfer methods with their parameters",
}


_TRAINING = ("torch", "lightning_fabric", "safetensors")
"""How the names of packages of the extra `train` begin."""


def _module_of(verb: str) -> ModuleType:
    return import_module(f"tlvision.cli.{verb.replace('-', '_')}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="tlvision", description="Transfer learning for detection and segmentation.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, purpose in VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:], allow_abbrev=False)
        _module_of(name).add_arguments(verb)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    With TLVISION_DEBUG=1 in the environment, exceptions that are neither InputError nor RunError are raised.
    """
    _accept_any_character()
    try:
        return _run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stdout = None
        return 0
    except Exception as error:
        from tlvision.cli.last_resort import handle

        return handle(error, sys.argv[1:] if arguments is None else arguments)


def _run(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(f"tlvision {version('tlvision')}")
        return 0
    if options.verb is None:
        parser.print_help()
        return 2
    with _training_installed():
        code = _module_of(options.verb).run(options)
    sys.stdout.flush()  # a full disk or a closed pipe behind it is noticed here, where it can still be reported
    return int(code or 0)


@contextmanager
def _training_installed() -> Iterator[None]:
    """Turn the absence of a package of the extra `train` into an InputError with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_TRAINING):
            raise
        raise InputError(
            f'{error.name} is not installed, which this command needs. pip install "tlvision[train]"'
        ) from error


def _accept_any_character() -> None:
    """Let names that the terminal's encoding lacks, or that are no text at all, be printed with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
