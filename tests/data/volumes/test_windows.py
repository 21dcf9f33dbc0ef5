import numpy as np
import pytest

from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.windows import check_window, grey, limits_of, window_text


def test_a_window_is_worked_out_by_hand() -> None:
    limits = limits_of([50, 400], np.zeros(1))
    assert limits == (-150, 250) == limits_of("soft_tissue", np.zeros(1))
    values = np.array([-3000, -150, -149, 49, 50, 51, 249, 250, 32767], np.int16)
    # (value + 150) * 255 / 400: 0.6375, 126.86, 127.5, 128.14, 254.36
    np.testing.assert_array_equal(grey(values, limits), [0, 0, 1, 127, 128, 128, 254, 255, 255])
    assert grey(values, limits).dtype == np.uint8
    assert window_text("soft_tissue") == "soft_tissue (-150 to 250)"
    assert window_text([50, 400]) == "centre and width (-150 to 250)"


def test_without_a_window_hounsfield_units_are_kept() -> None:
    values = np.array([-2000, -1024, -1000, 0, 3071, 64511, 70000, 0.5], np.float32)
    found = grey(values, None)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, [0, 0, 24, 1024, 4095, 65535, 65535, 1025])
    assert window_text(None) == "none (value + 1024, 16 bits)"


def test_percentiles_are_those_of_the_volume() -> None:
    voxels = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    low, high = limits_of("percentiles", voxels)
    assert (low, high) == pytest.approx((5.0, 995.0))
    assert window_text("percentiles", (low, high)) == "percentiles (5 to 995)"
    assert window_text("percentiles") == "percentiles of each volume"
    constant = limits_of("percentiles", np.full((3, 3, 3), 7.0))
    assert grey(np.full(2, 7.0), constant).tolist() == [0, 0]
    large = np.full((2, 2, 2), 2**63, np.uint64)
    assert grey(large, limits_of("percentiles", large)).tolist() == np.zeros_like(large).tolist()


@pytest.mark.parametrize("window", ["tissue", [1, 0], [1], [1, 2, 3], [0, float("nan")], 5, True])
def test_a_window_that_is_none_is_refused_with_the_choices(window: object) -> None:
    with pytest.raises(ValueError, match=r"window=.* must be soft_tissue, .*\[50,400\]"):
        check_window(window)


def test_label_values_become_classes_and_the_files_values() -> None:
    label = np.array([0, 1, 2, 7, 300], np.uint16)
    both = ClassMap({"liver": [1, 2], "spleen": 300})
    mask, others = both.indices(label, "a.nii")
    assert (mask.tolist(), others, both.num_classes) == ([0, 1, 1, 0, 2], [7], 3)
    assert both.to_file(mask).tolist() == mask.tolist()
    liver = ClassMap({"liver": [1, 2]})
    assert liver.num_classes == 1
    assert liver.to_file(liver.indices(label, "a.nii")[0]).tolist() == [0, 255, 255, 0, 0]
    kept = ClassMap(None)
    assert kept.indices(label[:4], "a.nii")[0].tolist() == [0, 1, 2, 7]
    with pytest.raises(ValueError, match=r"^a.nii holds the value 300, .*classes="):
        kept.indices(label, "a.nii")


@pytest.mark.parametrize(
    "classes", [{}, {"a": 0}, {"a": []}, {"a": 1, "b": [1, 2]}, {"a": -1}, {"a": 65536}, {"a": 1.5}]
)
def test_classes_that_are_none_are_refused(classes: dict) -> None:
    with pytest.raises(ValueError, match=r"classes"):
        ClassMap(classes)
