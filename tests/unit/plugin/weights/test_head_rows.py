"""Head surgery by class name: rows follow names, every key is reported once, and foreign weights are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tlvision.plugin.protocol import WeightReport
from tlvision.plugin.weights.head_rows import ClassRows, Special, load_by_class_name, require_same_architecture
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError

KEYS = ("1.weight", "1.bias")


def _model(classes: int) -> nn.Sequential:
    torch.manual_seed(classes)
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, classes))


def _file(model: nn.Module, names: tuple[str, ...] | None) -> TensorFile:
    return TensorFile(Path("old.safetensors"), {key: value.clone() for key, value in model.state_dict().items()}, names)


def _keys(report: WeightReport) -> list[str]:
    entries = (*report.loaded, *report.missing, *report.mismatched, *report.remapped)
    return sorted(entry.split(":", 1)[0] for entry in entries)


def test_rows_follow_the_names() -> None:
    old, new = _model(3), _model(4)
    fresh = new[1].weight.detach().clone()
    report = load_by_class_name(new, _file(old, ("car", "person", "dog")), ("dog", "cat", "car", "owl"), KEYS)
    torch.testing.assert_close(new[1].weight[[0, 2]], old[1].weight[[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(new[1].bias[[0, 2]], old[1].bias[[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(new[1].weight[[1, 3]], fresh[[1, 3]], rtol=0, atol=0)
    assert report.remapped == tuple(f"{key}: rows dog, car of 3; fresh cat, owl" for key in KEYS)
    assert _keys(report) == sorted(new.state_dict())


def test_same_number_of_classes_in_another_order_is_not_loaded_by_position() -> None:
    old, new = _model(2), _model(2)
    report = load_by_class_name(new, _file(old, ("a", "b")), ("b", "a"), KEYS)
    torch.testing.assert_close(new[1].weight, old[1].weight.flip(0), rtol=0, atol=0)
    assert report.remapped == tuple(f"{key}: rows b, a of 2" for key in KEYS)


def test_classes_in_any_dimension_follow_the_names() -> None:
    """A layer that takes two features and the scores of the classes, and gives a score for each."""
    both = nn.Linear(2 + 3, 3, bias=False)
    file = TensorFile(Path("old"), {"weight": torch.arange(15.0).view(3, 5)}, ("a", "b", "c"))
    layout = ClassRows(), ClassRows(before=2, dim=1)
    fresh = both.weight.detach().clone()
    report = load_by_class_name(both, file, ("c", "new", "a"), {"weight": layout})
    assert both.weight[[0, 2]][:, [0, 1, 2, 4]].tolist() == [[10, 11, 14, 12], [0, 1, 4, 2]]
    assert torch.equal(both.weight[1], fresh[1])
    assert torch.equal(both.weight[:, 3], fresh[:, 3])
    assert report.remapped == ("weight: rows c, a of 3; fresh new",)
    narrow = nn.Linear(2 + 4, 3, bias=False)
    report = load_by_class_name(narrow, file, ("c", "new", "a"), {"weight": layout})
    assert report.mismatched == ("weight: (3, 6) here, (3, 5) there for 3 and 3 classes",)


def test_rows_of_no_class_keep_their_place() -> None:
    for names in (("b", "a"), ("x", "y"), None):
        objectness = nn.Linear(1, 3)
        file = TensorFile(
            Path("old"), {"weight": torch.tensor([[7.0], [8.0]]), "bias": torch.tensor([1.0, 2.0])}, names
        )
        layouts = dict.fromkeys(("weight", "bias"), Special.BY_POSITION)
        report = load_by_class_name(objectness, file, ("a", "b", "c"), layouts)
        assert objectness.weight[:2].flatten().tolist() == [7.0, 8.0]
        assert objectness.bias[:2].tolist() == [1.0, 2.0]
        assert len(report.remapped) == 2


def test_same_classes_are_loaded_whole() -> None:
    old, new = _model(3), _model(3)
    with torch.no_grad():
        old[0].running_mean.fill_(7.0)
    report = load_by_class_name(new, _file(old, ("a", "b", "c")), ("a", "b", "c"), KEYS)
    assert sorted(report.loaded) == sorted(new.state_dict())
    assert (report.missing, report.mismatched, report.remapped, report.unused) == ((), (), (), ())
    assert new[0].running_mean.tolist() == [7.0] * 4


@pytest.mark.parametrize(("names", "reason"), [(None, "does not name its classes"), (("x", "y"), "no class in common")])
def test_without_shared_names_rows_stay_fresh_and_say_why(names: tuple[str, ...] | None, reason: str) -> None:
    old, new = _model(2), _model(2)
    with torch.no_grad():
        old[1].weight.fill_(5.0)
    fresh = new[1].weight.detach().clone()
    report = load_by_class_name(new, _file(old, names), ("a", "b"), KEYS)
    torch.testing.assert_close(new[1].weight, fresh, rtol=0, atol=0)
    assert len(report.mismatched) == len(KEYS)
    assert all(reason in entry for entry in report.mismatched)
    assert _keys(report) == sorted(new.state_dict())


def test_half_precision_is_cast_to_the_model() -> None:
    old, new = _model(2), _model(2)
    load_by_class_name(new, _file(old.half(), ("a", "b")), ("b", "a"), KEYS)
    assert new[1].weight.dtype == torch.float32
    torch.testing.assert_close(new[1].weight, old[1].weight.flip(0).float(), rtol=0, atol=0)


def test_missing_mismatched_and_unused_keys_are_named() -> None:
    old, new = _model(2), _model(2)
    file = _file(old, ("a", "b"))
    del file.tensors["0.running_var"]
    file.tensors["0.weight"] = torch.ones(9)
    file.tensors["extra"] = torch.ones(1)
    report = load_by_class_name(new, file, ("a", "b"), KEYS)
    assert report.missing == ("0.running_var",)
    assert report.mismatched == ("0.weight: (4,) here, (9,) there",)
    assert report.unused == ("extra",)
    assert _keys(report) == sorted(new.state_dict())
    with pytest.raises(InputError, match=r"not a checkpoint of 'tiny'.*0\.running_var.*0\.weight: \(4,\) here"):
        require_same_architecture(report, "tiny", KEYS)


def test_a_head_of_another_width_is_another_architecture_only_beyond_its_rows() -> None:
    new = _model(2)
    wide = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(6, 3))
    report = load_by_class_name(new, _file(wide, ("a", "b", "c")), ("a", "b"), KEYS)
    assert report.mismatched == ("1.weight: (2, 4) here, (3, 6) there for 2 and 3 classes",)
    assert report.remapped == ("1.bias: rows a, b of 3",)
    require_same_architecture(report, "tiny", KEYS)


def test_the_summary_calls_a_new_head_by_its_name_and_not_another_shape() -> None:
    head = torch.nn.Linear(4, 2)
    equal = {"weight": torch.ones(2, 4), "bias": torch.ones(2)}
    for tensors, names in (
        (equal, None),
        (equal, ("sky", "road")),
        ({"weight": torch.ones(3, 4), "bias": torch.ones(3)}, ("a", "b", "c")),
    ):
        file = TensorFile(Path("old.pt"), tensors, names)
        summary = load_by_class_name(head, file, ["person", "cat"], ["weight", "bias"]).summary()
        assert "2 of the head stay fresh (other classes), 0 of another shape" in summary
    other = load_by_class_name(head, TensorFile(Path("old.pt"), {"weight": torch.ones(2, 9)}, None), ["a", "b"], [])
    assert other.summary().endswith("1 missing, 1 of another shape, 0 unused")
