"""`train.lr: auto`: short runs choose the rate, and the run is that of the chosen number."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlvision
from interrupt import Interrupt
from launch import torchrun
from tiny import QUIET, config_of
from tlvision.config.load import load_config
from tlvision.engine import rate_probe
from tlvision.engine.build import build_run
from tlvision.engine.rate_probe import Probe, best_of, explain, hold_out
from tlvision.engine.train import train
from tlvision.formats.label_maps import write_label_map
from tlvision.training.fabric import make_fabric
from tlvision.types import InputError, RunError

USELESS, GOOD = 1e-9, 5e-3


@pytest.fixture(scope="module", autouse=True)
def _candidates() -> Iterator[None]:
    """A rate that learns nothing is the first candidate and a good one the second; an epoch is enough for a probe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_probe, "RATES", {"adamw": (USELESS, GOOD), "sgd": (1e6, 1e-2)})
        patch.setattr(rate_probe, "MIN_STEPS", 3)
        yield


@pytest.fixture
def auto(tiny_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """Six epochs with the rate that is found best."""
    return probed(tiny_dataset, "auto", tmp_path / "run")


def probed(dataset: Path, rate: float | str, out: Path) -> dict[str, Any]:
    config = config_of(dataset, out, epochs=6, hooks=({"ema": {"decay": 0.5, "warmup": 0}}, QUIET))
    config["run"]["report"] = True
    config["train"]["lr"] = rate
    return config


@pytest.fixture(scope="module")
def chosen(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose rate was chosen, and what it printed; for tests that only read it."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run = tlvision.train(probed(tiny_dataset, "auto", tmp_path_factory.mktemp("chosen") / "run")).run
    return run, printed.getvalue()


@pytest.fixture(scope="module")
def plain(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run whose config has that rate as a number."""
    return tlvision.train(probed(tiny_dataset, GOOD, tmp_path_factory.mktemp("plain") / "run")).run


def checkpoints(run: Path) -> dict[str, bytes]:
    """Return what both checkpoints hold, without paths and times."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted((run / "checkpoints").rglob("*"))
        if path.suffix in {".safetensors", ".json"} and path.name not in {"environment.json", "manifest.json"}
    }


def test_the_better_rate_is_chosen_and_the_run_says_so(chosen: tuple[Path, str]) -> None:
    run, printed = chosen
    record = json.loads((run / "rate.json").read_text())
    assert record["lr"] == GOOD
    assert [probe["rate"] for probe in record["probes"]] == [USELESS, GOOD]
    assert record["probes"][0]["loss"] > record["probes"][1]["loss"]
    assert load_config(run / "config.yaml").train.lr == GOOD
    ledger = json.loads((run / "ledger.json").read_text())
    assert {row["lr"] for row in ledger["rows"]} == {GOOD}
    assert ledger["rate"] == record["why"]
    first = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert first == {"kind": "rate", "step": 0, "lr": GOOD, "why": record["why"]}
    assert "train.lr: trying 1e-09 for 1 epoch\ntrain.lr: trying 0.005 for 1 epoch\ntrain.lr: 0.005, chosen" in printed
    assert "train.lr: 0.005, chosen on held-out training images after 1 epoch" in printed
    assert "train.lr: 0.005, chosen on" in (run / "report.html").read_text()
    assert not (run / "rate_probe").exists()


@pytest.mark.parametrize(
    ("metrics", "tried"),
    [((0.4, 0.3, 0.9), 2), ((0.3, 0.4, 0.2), 3), ((0.3, 0.3, 0.9), 3), ((None, 0.1, 0.2), 3), ((0.3, None, 0.2), 3)],
)
def test_rates_are_tried_downwards_while_they_gain(
    metrics: tuple[float | None, ...], tried: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that is worse than the ones above it ends the search; one that is as good or diverges does not."""
    rates = (1e-3, 3e-4, 1e-4)
    given = {
        rate: Probe(rate=rate, failed="not finite") if metric is None else Probe(rate=rate, metric=metric, loss=1.0)
        for rate, metric in zip(rates, metrics, strict=True)
    }
    monkeypatch.setattr(rate_probe, "probe", lambda config, rate, *_: given[rate])
    fabric: Any = SimpleNamespace(is_global_zero=True, broadcast=lambda value, src: value)
    found = rate_probe.run_probes(None, rates, 1, tmp_path / "probes", fabric)  # type: ignore[arg-type]
    assert [one.rate for one in found] == list(rates[:tried])


@pytest.mark.slow
def test_a_rate_that_diverges_is_not_chosen(auto: dict[str, Any]) -> None:
    auto["train"]["epochs"] = 3
    auto["train"]["optimizer"] = "sgd"
    auto["train"]["clip"] = 1e9
    run = tlvision.train(auto).run
    record = json.loads((run / "rate.json").read_text())
    assert record["lr"] == 1e-2
    assert "not finite" in record["probes"][0]["failed"]


@pytest.mark.slow
def test_the_run_is_that_of_the_number_bit_for_bit(chosen: tuple[Path, str], plain: Path) -> None:
    run, _ = chosen
    assert not (plain / "rate.json").exists()
    left, right = checkpoints(run), checkpoints(plain)
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []
    for name in ("metrics.json", "predictions.json"):
        assert (run / name).read_bytes() == (plain / name).read_bytes()


@pytest.mark.slow
def test_resume_takes_the_rate_from_the_run(auto: dict[str, Any], plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tlvision.engine import train as runs

    upstream = runs._choose_rate

    def interrupted(*arguments: Any) -> Any:
        parts = upstream(*arguments)
        parts.hooks.append(Interrupt(step=7))  # in the run, not in the probes before it
        return parts

    monkeypatch.setattr(runs, "_choose_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tlvision.train(auto)
    monkeypatch.setattr(runs, "_choose_rate", lambda *arguments: pytest.fail("probed again"))
    resumed = train(auto, resume=auto["run"]["out"]).run
    left, right = checkpoints(resumed), checkpoints(plain)
    assert [name for name in right if name.endswith("model.safetensors") and left[name] != right[name]] == []
    assert (resumed / "metrics.json").read_bytes() == (plain / "metrics.json").read_bytes()


@pytest.mark.slow
def test_a_run_stopped_while_it_probes_probes_again(auto: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = rate_probe.probe
    auto["train"]["epochs"] = 3
    monkeypatch.setattr(rate_probe, "probe", lambda *arguments: (_ for _ in ()).throw(SystemError("killed")))
    monkeypatch.setattr("tlvision.engine.train.release_folder", lambda run: None)  # as kill -9 leaves it
    with pytest.raises(SystemError, match="killed"):
        tlvision.train(auto)
    monkeypatch.setattr(rate_probe, "probe", upstream)
    run = train(auto, resume=auto["run"]["out"]).run
    assert json.loads((run / "rate.json").read_text())["lr"] == GOOD


def test_auto_cannot_be_set_on_resume(auto: dict[str, Any], chosen: tuple[Path, str]) -> None:
    with pytest.raises(InputError, match="'auto' is resolved when a run starts"):
        train(auto, ["train.lr=auto", "train.epochs=7"], resume=chosen[0])


def test_held_out_images_are_training_images_and_depend_on_the_seed(auto: dict[str, Any], tmp_path: Path) -> None:
    fabric = make_fabric(load_config(auto).train)
    (tmp_path / "probe").mkdir()
    found = []
    for seed in (0, 0, 1):
        auto["train"]["seed"] = seed
        parts = build_run(load_config(auto))
        fit, held = hold_out(parts, tmp_path / "probe", fabric)
        ids = [{sample.image_id for sample in data.samples} for data in (fit.train, fit.val, held.train, parts.train)]
        assert ids[1] == ids[2]
        assert not ids[0] & ids[1]
        assert ids[0] | ids[1] == ids[3]
        assert (len(ids[0]), len(ids[1])) == (9, 3)
        written = json.loads(fit.val.path.read_text())
        assert {image["id"] for image in written["images"]} == ids[1]
        assert written["annotations"], "images with objects come first"
        found.append(ids[1])
    assert found[0] == found[1] != found[2]


def test_tiles_of_an_image_are_held_out_together(auto: dict[str, Any], tmp_path: Path) -> None:
    fabric = make_fabric(load_config(auto).train)
    (tmp_path / "probe").mkdir()
    parts = build_run(load_config(auto, ["data.tiles.size=48"]))
    fit, held = hold_out(parts, tmp_path / "probe", fabric)
    sources = [{each.origin or each.path for each in data.samples} for data in (fit.train, held.train)]
    assert len(fit.train.samples) > 2 * len(sources[0])
    assert not sources[0] & sources[1]
    assert len(sources[0] | sources[1]) == 12


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ({1e-3: (0.0512, 4.974), 3e-4: (0.1157, 4.823), 1e-4: (0.1260, 6.359), 3e-5: (0.1255, 8.128)}, 3e-4),
        ({1e-3: (0.1362, 4.497), 3e-4: (0.1324, 4.699), 1e-4: (0.1403, 7.045), 3e-5: (0.1467, 8.423)}, 3e-4),
        ({1e-3: (0.1771, 6.572), 3e-4: (0.4779, 6.049), 1e-4: (0.4758, 6.322), 3e-5: (0.4768, 6.409)}, 3e-5),
    ],
)
def test_weights_that_hardly_moved_are_not_chosen_for_what_they_knew_before(
    found: dict[float, tuple[float, float]], rate: float
) -> None:
    """Probes of 25 images of KITTI, CARLA and coco128; of the last one the pretraining had the images."""
    probes = [Probe(rate=each, metric=metric, loss=loss) for each, (metric, loss) in found.items()]
    assert best_of(probes).rate == rate


def test_the_best_metric_counts_of_nearly_equal_ones_the_lowest_rate_and_without_any_the_loss() -> None:
    low, high = (Probe(rate=rate, metric=0.2, loss=3.0) for rate in (3e-4, 1e-3))
    assert best_of([high, low]) is low
    assert best_of([high, Probe(rate=3e-4, metric=0.195, loss=3.2)]).rate == 3e-4
    assert best_of([high, Probe(rate=3e-4, metric=0.18, loss=2.9)]) is high
    found_nothing = Probe(rate=1e-3, metric=0.001, loss=9.7), Probe(rate=3e-4, metric=0.002, loss=13.0)
    assert best_of(found_nothing) is found_nothing[0]
    assert best_of([high, Probe(rate=3e-4, metric=0.21, loss=3.2)]).rate == 3e-4
    assert best_of([Probe(rate=1e-3, failed="loss"), low]) is low
    near, far = (Probe(rate=1e-3, metric=value, higher_is_better=False, loss=1.0) for value in (0.25, 0.75))
    assert best_of([far, near]) is near
    assert "0.001: 0.2500" in explain(1e-3, [near], 3), "as it was measured"
    with pytest.raises(RunError, match="no candidate rate can be used: loss is nan"):
        best_of([Probe(rate=1e-3, failed="loss is nan")])


@pytest.mark.slow
def test_segmenters_choose_as_well(auto: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(8):
        labels = np.zeros((50, 70), np.uint8)
        labels[:, int(rng.integers(20, 50)) :] = 1
        Image.fromarray(np.where(labels[..., None], (200, 200, 200), (60, 60, 60)).astype(np.uint8)).save(
            tmp_path / "images" / f"{number}.png"
        )
        write_label_map(tmp_path / "masks" / f"{number}.png", labels)
    folders = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    auto["model"]["arch"] = "tiny_segmenter"
    auto["data"] |= {"train": folders, "val": folders, "classes": ["dark", "light"], "augment": {"mosaic": 0}}
    auto["train"]["epochs"] = 4
    run = tlvision.train(auto).run
    record = json.loads((run / "rate.json").read_text())
    assert record["lr"] == GOOD
    assert all(0 <= probe["metric"] <= 1 for probe in record["probes"])


def test_a_run_that_is_too_short_takes_the_highest_rate(
    auto: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    auto["train"]["epochs"] = 3
    monkeypatch.setattr(rate_probe, "MIN_STEPS", 6)
    monkeypatch.setattr(rate_probe, "probe", lambda *arguments: pytest.fail("9 steps are less than two probes of 6"))
    run = tlvision.train(auto).run
    assert load_config(run / "config.yaml").train.lr == USELESS
    assert json.loads((run / "rate.json").read_text())["probes"] == []
    assert "the highest candidate, because the run is too short to compare rates (9 steps)" in capsys.readouterr().out


def test_what_auto_cannot_do_is_refused(auto: dict[str, Any]) -> None:
    data = auto["data"]
    data["source_val"] = data["val"]
    with pytest.raises(InputError, match=r"train\.lr: 'auto' chooses by labelled images of one domain"):
        tlvision.train(auto)
    assert not Path(auto["run"]["out"]).exists()
    with pytest.raises(InputError, match=r"train.lr: .*'fast'"):
        load_config(auto, ["train.lr=fast"])


@pytest.mark.slow
def test_two_processes_agree(auto: dict[str, Any], tmp_path: Path) -> None:
    auto["data"]["batch"]["labelled"] = 2
    script = (
        "import json, sys\nfrom tlvision.engine import rate_probe\nimport tlvision\n"
        f"rate_probe.RATES = {{'adamw': ({USELESS}, {GOOD})}}\nrate_probe.MIN_STEPS = 3\n"
        "tlvision.train(json.loads(sys.argv[1]))\n"
    )
    (tmp_path / "both.py").write_text(script)
    torchrun(tmp_path / "both.py", json.dumps(auto))
    run = Path(auto["run"]["out"])
    assert json.loads((run / "rate.json").read_text())["lr"] == GOOD
    assert load_config(run / "config.yaml").train.lr == GOOD
