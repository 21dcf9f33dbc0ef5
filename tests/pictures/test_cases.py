import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from liverseg.labels import IGNORED
from liverseg.pictures.cases import Case, as_shown, classes_at, draw_best_and_worst, draw_case
from liverseg.pictures.colours import HATCHING, OUTCOME_COLOURS, class_colour
from liverseg.pictures.lettering import Entry, Lettering

LINE, GAP, FACTOR = 22, 4, 64  # 4 pixels enlarged to 256
WIDTH = 256 + GAP


def panels(picture: Tensor, count: int, top: int = LINE) -> list[Tensor]:
    """Cut a picture of a 4 x 4 image into its panels at the image's own resolution."""
    assert picture.shape[2] == count * WIDTH - GAP
    middle = FACTOR // 2
    return [
        picture[:, top + middle : top + 256 : FACTOR, start + middle : start + 256 : FACTOR]
        for start in range(0, count * WIDTH, WIDTH)
    ]


def classes(**pixels: int) -> Tensor:
    """Return 4 x 4 class indices, ``p12=3`` setting row 1, column 2 to 3."""
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    for place, index in pixels.items():
        mask[int(place[1]), int(place[2])] = index
    return mask


def mixed(colour: tuple[int, int, int], share: float, grey: float) -> Tensor:
    return (share * torch.tensor(colour) + (1 - share) * grey).round()[:, None]


def is_near(colour: Tensor, expected: Tensor) -> bool:
    return bool((colour.float() - expected.reshape(3)).abs().max() <= 1)


def test_each_panel_shows_what_its_title_says() -> None:
    image = torch.full((1, 4, 4), 0.5)
    prediction, truth = classes(p00=1), classes(p33=1, p03=IGNORED)
    picture = draw_case(image, prediction, truth)
    assert picture.shape == (3, LINE + 256 + LINE, 4 * WIDTH - GAP)  # the last line is the legend
    shown_image, shown_truth, shown_prediction, _ = panels(picture, 4)
    colour = torch.tensor(class_colour(1), dtype=torch.uint8)
    assert (shown_image == 128).all()
    assert torch.equal(shown_truth[:, 3, 3], colour)
    assert tuple(shown_truth[:, 0, 3].tolist()) in HATCHING
    assert shown_truth[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.equal(shown_prediction[:, 0, 0], colour)
    assert shown_prediction[:, 3, 3].tolist() == [0, 0, 0]


def test_each_pixel_has_the_colour_of_its_outcome() -> None:
    truth = classes(p00=1, p01=1, p10=2, p11=IGNORED, p12=IGNORED, p20=2)
    prediction = classes(p00=1, p02=1, p10=1, p11=1)
    errors = panels(draw_case(torch.full((1, 4, 4), 0.5), prediction, truth), 4)[3]
    dimmed = 0.6 * 128
    for outcome, row, column in [
        ("right", 0, 0),
        ("missed", 0, 1),
        ("false", 0, 2),
        ("wrong class", 1, 0),
        ("missed", 2, 0),  # of the second class
    ]:
        expected = mixed(OUTCOME_COLOURS[outcome], 0.8, dimmed)
        assert is_near(errors[:, row, column], expected), outcome
    assert is_near(errors[:, 3, 3], torch.full((3,), dimmed))  # neither true nor predicted
    for column in (1, 2):  # ignored, whatever is predicted
        assert tuple(errors[:, 1, column].tolist()) in HATCHING


def test_ignored_pixels_are_hatched_whatever_their_size() -> None:
    for side in (4, 300, 600):
        truth = torch.zeros(side, side, dtype=torch.uint8)
        truth[: side // 2] = IGNORED
        picture = draw_case(torch.rand(3, side, side), truth.where(truth == 0, 1), truth)
        shown = max(256, side)
        top = (picture.shape[1] - shown) // 2  # within the hatching
        stripes = picture[:, top : top + shown // 4, shown + GAP : 2 * shown + GAP]
        found = set(map(tuple, stripes.flatten(1).T.tolist()))
        assert found == set(HATCHING)
        assert (stripes == torch.tensor(HATCHING[0])[:, None, None]).float().mean() > 0.4


def legend(picture: Tensor) -> set[str]:
    """Return the outcomes whose colours stand in the last line."""
    line = set(map(tuple, picture[:, -LINE:].flatten(1).T.tolist()))
    return {outcome for outcome, colour in OUTCOME_COLOURS.items() if colour in line}


def test_the_legend_names_a_wrong_class_only_where_there_are_several() -> None:
    image = torch.zeros(1, 4, 4)
    one = draw_case(image, classes(p00=1), classes(p11=1, p12=IGNORED))
    assert legend(one) == {"right", "missed", "false"}
    assert legend(draw_case(image, classes(p00=2), classes())) == set(OUTCOME_COLOURS)


def colours_of(lines: Tensor) -> set[tuple[int, ...]]:
    return set(map(tuple, lines.flatten(1).T.tolist()))


def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that legends are also written into, from now on."""
    written: list[str] = []
    write = Lettering.write_entries

    def listen(self: Lettering, canvas: Any, top: int, entries: Sequence[Entry]) -> None:
        written.extend(entry.text for entry in entries)
        write(self, canvas, top, entries)

    monkeypatch.setattr(Lettering, "write_entries", listen)
    return written


def test_background_classes_and_ignored_are_named_in_their_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = words(monkeypatch)
    image, names = torch.zeros(1, 4, 4), ["liver", "spleen", "aorta"]
    truth = classes(p11=3, p22=IGNORED)
    named = draw_case(image, classes(p00=1), truth, class_names=names)
    line = colours_of(named[:, LINE + 256 : LINE + 256 + LINE])
    shown = [class_colour(index) in line for index in range(4)]
    assert shown == [True, True, False, True]  # no spleen is predicted or true
    assert set(HATCHING) <= line
    outcomes = ["right", "missed", "false", "wrong class"]
    assert written == ["background", "liver", "aorta", "ignored", *outcomes]
    written.clear()
    draw_case(image, classes(), classes(p00=1), class_names=["liver"])
    assert written == ["background", "liver", *outcomes[:3]]
    written.clear()
    draw_case(image, classes(), truth)
    assert written == [*outcomes, "ignored"]


def test_errors_between_classes_say_which_was_taken_for_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = words(monkeypatch)
    names = ["liver", "spleen", "aorta", "a", "b"]
    truth = classes(p00=2, p01=2, p02=1, p03=IGNORED, p10=3, p20=3)
    prediction = classes(p00=1, p01=1, p02=2, p03=1, p10=0, p11=1, p20=3)
    picture = draw_case(torch.zeros(1, 4, 4), prediction, truth, class_names=names)
    told = [text for text in written if "taken" in text]
    assert told == ["2 px spleen taken for liver", "1 px liver taken for spleen"]
    row = picture[:, LINE + 256 + LINE : LINE + 256 + 2 * LINE]
    assert {class_colour(1), class_colour(2)} <= colours_of(row)
    written.clear()
    every = torch.arange(1, 6, dtype=torch.uint8).repeat(5, 1)
    draw_case(torch.zeros(1, 5, 5), every, every.T, class_names=names)
    told = [text for text in written if "taken" in text or "more" in text]
    assert told[3:] == ["and 17 more such pairs"]  # of 5 x 4
    assert all(text.startswith("1 px ") for text in told[:3])


def test_counts_of_errors_are_those_of_the_files_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    written = words(monkeypatch)
    truth = torch.full((40, 3000), 2, dtype=torch.uint8)
    draw_case(torch.zeros(1, 40, 3000), truth - 1, truth, class_names=["a", "b"])
    assert "120,000 px b taken for a" in written


def test_without_background_every_class_is_coloured_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = words(monkeypatch)
    truth, prediction = classes(p00=1, p33=IGNORED), classes(p01=1)
    picture = draw_case(
        torch.full((1, 4, 4), 0.5),
        prediction,
        truth,
        class_names=["sky", "road"],
        has_background=False,
    )
    assert written == [
        *("sky", "road", "ignored"),
        *("1 px sky taken for road", "1 px road taken for sky", "wrong class"),
    ]
    _, shown_truth, _, errors = panels(picture, 4)
    assert shown_truth[:, 2, 2].tolist() == list(class_colour(1))  # sky
    assert shown_truth[:, 0, 0].tolist() == list(class_colour(2))  # road
    dimmed = 0.6 * 128
    for column in (0, 1):
        wrong = mixed(OUTCOME_COLOURS["wrong class"], 0.8, dimmed)
        assert is_near(errors[:, 0, column], wrong)
    assert is_near(errors[:, 2, 2], torch.full((3,), dimmed))  # right
    overlay = panels(
        draw_case(torch.full((1, 4, 4), 0.5), classes(), class_names=["sky"], has_background=False),
        3,
    )[2]
    assert is_near(overlay[:, 0, 0], mixed(class_colour(1), 0.45, 128))


def test_many_classes_take_several_lines_within_the_picture() -> None:
    every = torch.arange(16, dtype=torch.uint8).reshape(4, 4)
    image, names = torch.zeros(1, 4, 4), [f"structure number {index}" for index in range(1, 16)]
    plain = draw_case(image, every, every)
    named = draw_case(image, every, every, class_names=names)
    added = named.shape[1] - plain.shape[1]
    assert added > LINE
    assert added % LINE == 0
    found = colours_of(lines := named[:, plain.shape[1] - LINE : -LINE])
    assert all(class_colour(index) in found for index in range(1, 16))
    assert (lines[:, :, -GAP:] == 255).all()


def test_a_caption_takes_a_line_above_the_titles() -> None:
    image, prediction = torch.zeros(1, 4, 4), classes()
    plain = draw_case(image, prediction, prediction)
    captioned = draw_case(image, prediction, prediction, caption="patient007_slice01   Dice 0.500")
    assert torch.equal(captioned[:, LINE:], plain)
    assert (captioned[:, :LINE, 8:].amin(dim=0) < 128).any()  # ink


def test_a_caption_wider_than_the_picture_keeps_its_beginning_and_end() -> None:
    image, prediction = torch.zeros(1, 256, 60), torch.zeros(256, 60, dtype=torch.uint8)
    start, end, rest = "patient007_", "   Dice 0.500", "_which_has_a_very_long_name"
    pictures = [
        draw_case(image, prediction, prediction, caption=caption)[:, :LINE]
        for caption in (
            start + 4 * rest + end,
            start + 9 * rest + end,
            start + 4 * rest + "   Dice 0.700",
        )
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert (pictures[0][:, :, -GAP:] == 255).all()  # nothing is cut off at the right


def test_two_columns_make_a_square() -> None:
    image, prediction, truth = torch.full((1, 4, 4), 0.5), classes(p00=1), classes(p33=1)
    row = draw_case(image, prediction, truth)
    square = draw_case(image, prediction, truth, num_columns=2)
    assert square.shape == (3, 2 * (LINE + 256) + LINE, 2 * WIDTH - GAP)
    upper, lower = square[:, : LINE + 256], square[:, LINE + 256 :]
    assert torch.equal(upper, row[:, : LINE + 256, : 2 * WIDTH - GAP])
    assert torch.equal(lower[:, :-LINE], row[:, :-LINE, 2 * WIDTH :])


def test_text_grows_with_a_picture_that_is_shown_smaller() -> None:
    image, prediction = torch.full((1, 4, 4), 0.5), classes(p00=1)
    square = draw_case(image, prediction, prediction, num_columns=2, shown_width=258)
    assert square.shape == (3, 2 * (2 * LINE + 256) + 2 * LINE, 516)  # 516 is twice 258


def test_above_narrow_panels_titles_stand_apart_and_whole() -> None:
    widest = math.ceil(Lettering().length("prediction")) + GAP
    for width in (10, 40):
        mask = torch.zeros(300, width, dtype=torch.uint8)
        picture = draw_case(torch.full((1, 300, width), 0.5), mask, mask)
        assert picture.shape == (3, LINE + 300 + LINE, 4 * (widest + GAP) - GAP)
        edge = (widest - width) // 2  # panels stand below the middle of their titles
        row = picture[0, LINE + 150]
        assert row[edge : edge + width].tolist() == [128] * width
        assert row[edge - 1] == row[edge + width] == 255
        for column in range(1, 4):  # nothing is written between columns
            assert (picture[:, :LINE, column * (widest + GAP) - GAP :][:, :, :GAP] == 255).all()


def test_a_large_image_is_shrunk_to_the_largest_panel() -> None:
    classes_of = torch.zeros(1000, 4000, dtype=torch.uint8)
    classes_of[:, 2000:] = 1
    picture = draw_case(torch.full((1, 500, 2000), 0.5), classes_of, largest_panel=300)
    assert picture.shape == (3, LINE + 75, 3 * (300 + GAP) - GAP)
    prediction = picture[:, LINE:, 300 + GAP : 600 + GAP]
    assert (prediction[:, :, :150] == 0).all()
    yellow = torch.tensor(class_colour(1), dtype=torch.uint8)[:, None, None]
    assert (prediction[:, :, 150:] == yellow).all()


def test_what_is_thin_stays_in_a_smaller_size_and_the_rarest_class_is_seen() -> None:
    mask = torch.zeros(6, 9, dtype=torch.uint8)
    mask[:, 4] = 3
    mask[3, 0] = 1  # of fewer pixels than 3 and 2
    mask[3, 1:4] = 2
    mask[:3, 6:] = IGNORED
    mask[5, 8] = IGNORED  # alone
    assert classes_at(mask, (2, 3)).tolist() == [[0, 3, IGNORED], [1, 2, 0]]
    assert classes_at(mask, (6, 9)) is mask
    every = torch.tensor([[0, 1, 1, 1]], dtype=torch.uint8)  # without a background 0 is rare too
    assert classes_at(every, (1, 2), first=0).tolist() == [[0, 1]]
    assert classes_at(every, (1, 2), first=1).tolist() == [[1, 1]]
    assert classes_at(every, (2, 8)).tolist() == 2 * [[0, 0, 1, 1, 1, 1, 1, 1]]


def test_a_thin_structure_that_is_missed_is_seen_in_a_large_image() -> None:
    truth = torch.zeros(1200, 1200, dtype=torch.uint8)
    truth[:600] = 1
    prediction = truth.clone()
    truth[901], prediction[301] = 1, 0  # one pixel wide
    image = torch.zeros(1, 1200, 1200)
    picture = draw_case(image, prediction, truth, largest_panel=300, shown_width=1300)
    errors = picture[:, LINE : LINE + 300, 3 * (300 + GAP) + 150]
    missed = mixed(OUTCOME_COLOURS["missed"], 0.8, 0)[:, 0].byte().tolist()
    assert [row for row in range(300) if errors[:, row].tolist() == missed] == [75, 225]
    one = Case("a   Dice 0.999", image, prediction, truth)
    column = draw_best_and_worst([], [one])[:, 2 * LINE : 2 * LINE + 256, WIDTH + 128]
    assert [row for row in range(256) if column[2, row] > 1.2 * column[0, row]] == [64, 192]


def test_eight_bits_are_shown_as_they_are() -> None:
    image = torch.tensor([[[0, 51]], [[102, 255]], [[0, 0]]], dtype=torch.uint8)
    assert as_shown(image).flatten().tolist() == pytest.approx([0, 0.2, 0.4, 1, 0, 0])


@pytest.mark.parametrize(("low", "high"), [(0.0, 4095 / 65535), (-1024.0, 3071.0), (1e-9, 2e-9)])
def test_other_numbers_are_spread_from_black_to_white(low: float, high: float) -> None:
    ramp = torch.linspace(low, high, 2001).reshape(1, 1, -1)
    shown = as_shown(ramp)[0, 0]
    assert (shown[:10] == 0).all()  # half a percent
    assert (shown[-10:] == 1).all()
    assert shown[1000].item() == pytest.approx(0.5, abs=1e-3)


def test_a_flat_or_broken_image_is_drawn_too() -> None:
    assert as_shown(torch.full((1, 2, 2), 7.0)).tolist() == torch.zeros(1, 2, 2).tolist()
    values = torch.tensor([[[math.nan, math.inf, 0.0, 1.0]]])
    assert as_shown(values).isfinite().all()
    assert as_shown(torch.full((1, 1, 2), math.nan)).tolist() == [[[0.0, 0.0]]]
    one_bright = torch.zeros(1, 100, 100)
    one_bright[0, 3, 3] = 9
    assert as_shown(one_bright)[0, 3, 3] == 1


def test_without_truth_there_are_image_prediction_and_overlay() -> None:
    picture = draw_case(torch.full((3, 8, 8), 0.5), classes(p00=1))
    assert picture.shape == (3, LINE + 256, 3 * WIDTH - GAP)
    _, prediction, overlay = panels(picture, 3)
    assert prediction[:, 0, 0].tolist() == list(class_colour(1))
    assert is_near(overlay[:, 0, 0], mixed(class_colour(1), 0.45, 128))
    assert overlay[:, 2, 2].tolist() == [128, 128, 128]


def test_a_large_image_is_not_enlarged() -> None:
    picture = draw_case(torch.rand(1, 300, 280), torch.zeros(300, 280, dtype=torch.uint8))
    assert picture.shape == (3, LINE + 300, 3 * (280 + GAP) - GAP)


def case(caption: str, prediction: Tensor, size: tuple[int, int] = (4, 4)) -> Case:
    truth = torch.zeros(size, dtype=torch.uint8)
    return Case(caption, torch.zeros(1, *size), prediction.expand(size), truth)


def test_the_best_and_the_worst_stand_in_two_columns() -> None:
    good = case("a   Dice 1.000", torch.zeros(1, 1, dtype=torch.uint8))
    bad = case("b   Dice 0.000", torch.ones(1, 1, dtype=torch.uint8))
    large = case("c   Dice 0.000", torch.ones(1, 1, dtype=torch.uint8), size=(512, 1024))
    column, gap = 2 * 256 + GAP, 24
    picture = draw_best_and_worst([good], [bad, large])
    rows = (LINE + 256, LINE + 128)  # a large image is shrunk, and its row is as high as it is
    assert picture.shape == (3, 2 * LINE + sum(rows) + 2 * GAP, 2 * column + gap)
    false = mixed(OUTCOME_COLOURS["false"], 0.8, 0)
    top = 2 * LINE
    assert is_near(picture[:, top + 100, WIDTH + 100], torch.zeros(3))  # errors of a
    assert is_near(picture[:, top + 100, column + gap + 100], torch.zeros(3))  # image of b
    assert is_near(picture[:, top + 100, column + gap + WIDTH + 100], false)  # errors of b
    second = top + 256 + GAP + LINE
    assert is_near(picture[:, second + 100, column + gap + WIDTH + 100], false)  # errors of c
    assert (picture[:, second : second + 128, :column] == 255).all()  # there is no second best
    assert legend(picture) == {"right", "missed", "false"}


def test_of_the_best_and_the_worst_the_largest_error_between_classes_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = words(monkeypatch)
    one = case("a   Dice 0.000", torch.full((1, 1), 2, dtype=torch.uint8))
    one.truth[0, :3] = torch.tensor([1, 1, 3])
    names = ["liver", "spleen", "aorta"]
    picture = draw_best_and_worst([], [one], class_names=names)
    assert written[0] == "2 px liver taken for spleen"
    assert "1 px aorta taken for spleen" not in written
    assert picture.shape[1] == 2 * LINE + (2 * LINE + 256) + GAP


def test_a_column_without_an_image_is_left_out() -> None:
    one = case("a   Dice 0.000", torch.ones(1, 1, dtype=torch.uint8))
    picture = draw_best_and_worst([], [one])
    assert picture.shape == (3, 2 * LINE + (LINE + 256) + GAP, 2 * 256 + GAP)
    false = mixed(OUTCOME_COLOURS["false"], 0.8, 0)
    assert is_near(picture[:, 2 * LINE + 100, WIDTH + 100], false)


def test_narrow_images_stand_beside_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = torch.ones(1, 1, dtype=torch.uint8)
    picture = draw_best_and_worst([], [case("a   Dice 0.000", wrong, size=(400, 40))])
    assert picture.shape == (3, 2 * LINE + (LINE + 256) + GAP, 320)  # of 26 pixels each
    row = picture[:, 2 * LINE + 100].T.tolist()
    false = mixed(OUTCOME_COLOURS["false"], 0.8, 0)[:, 0].byte().tolist()
    assert row[:26] == 26 * [[0, 0, 0]]
    assert row[26 : 26 + GAP] == GAP * [[255, 255, 255]]
    assert row[26 + GAP : 52 + GAP] == 26 * [false]
    assert row[52 + GAP :] == (320 - 52 - GAP) * [[255, 255, 255]]
