"""The organs, painted back to front in the order of this file."""

import math

import torch
from torch import Tensor

from liverseg.data.phantom.canvas import AIR, Canvas, both, column
from liverseg.data.phantom.patient import WALL, Patient

FAT, CORTEX, MARROW = -100.0, 420.0, 150.0  # HU
HALF_HEIGHT = 0.72  # of the cavity, where its half width is 1


def paint_trunk(canvas: Canvas, patient: Patient) -> Tensor:
    """Paint table, skin, fat, muscle wall and ribs; return the depth of the cavity."""
    chance, hu = canvas.chance, patient.hu
    bend = (chance.uniform(0.0, 0.07), chance.uniform(-0.05, -0.01))
    cavity = canvas.blob(0.0, 0.0, (1.0, HALF_HEIGHT), wobble=0.02, bend=bend)
    skin = cavity + WALL + patient.fat * (1 + chance.uniform(-0.5, 0.3) * canvas.v)

    curve = chance.uniform(-0.02, 0.22)
    below = HALF_HEIGHT + WALL + patient.fat + chance.uniform(0.02, 0.06)
    for gap in (0.0, chance.uniform(0.1, 0.2))[: 1 + chance.happens(0.4)]:
        height = (canvas.straight_v - below - gap + curve * canvas.straight_u.square()).abs()
        end = chance.uniform(0.7, 1.5) - canvas.straight_u.abs()
        canvas.paint(torch.minimum(0.012 - height, end), chance.uniform(0, 500))

    streaks = canvas.noise(6.0, 3.0)
    canvas.paint(skin, 15.0)
    canvas.paint(skin - 0.018, FAT + 6 * streaks)
    wall = cavity + WALL * (1 + 0.25 * canvas.noise(0.8, 0.5).clamp(-1.5, 1.5))
    canvas.paint(wall, hu["muscle"])
    # Below the ribs the wall is three muscles with fat between them.
    seam = 0.008 - (cavity + WALL * 0.55).abs() - column(canvas.along((0.45, 0.1), (0.6, 0.0)))
    canvas.paint(seam, -20.0)

    angle = torch.atan2(canvas.u, -canvas.v)  # 0 in front, growing to both sides
    pitch = chance.uniform(0.4, 0.5)
    start = torch.where(angle > 0, chance.uniform(0, 1), chance.uniform(0, 1))
    turns = angle.abs() / pitch + start + column(canvas.level * chance.uniform(2.0, 3.0))
    beside = (turns - turns.floor() - 0.5) * pitch / chance.uniform(0.05, 0.09)
    thickness = chance.uniform(0.026, 0.036)
    rib = (1 - torch.hypot(beside, (cavity + WALL * 0.45) / thickness)) * thickness
    front = 0.45 + 1.1 * column(canvas.level).clamp(0, 1)  # the costal arch opens downwards
    beneath = 9.0 * column(canvas.level > chance.uniform(1.05, 1.2))  # the last rib
    cartilage = torch.minimum(rib, 0.3 * (front - angle.abs())) + 0.3 * thickness
    canvas.paint(cartilage - beneath, chance.uniform(60, 140))
    rib = torch.minimum(rib, 0.3 * torch.minimum(angle.abs() - front, 2.6 - angle.abs()))
    canvas.paint(rib - beneath, CORTEX)
    canvas.paint(rib - beneath - 0.016, MARROW)

    vessels = (0.25 - streaks.abs()) * (canvas.noise(2.0, 1.0) > 0.2)
    canvas.paint(cavity, FAT + 110 * vessels.clamp(min=0) * 4)
    return cavity


def paint_chest(canvas: Canvas, patient: Patient, cavity: Tensor) -> Tensor:
    """Paint lungs and heart; return the depth of the space below the diaphragm."""
    chance, hu = canvas.chance, patient.hu
    size = canvas.along((-0.06, 0.0), (0.0, 0.24), (0.1, 0.44), (0.25, 0.68), (0.5, 1.1))
    size = size * chance.uniform(0.94, 1.08)
    right = canvas.blob(-0.42, 0.0, (size, size * 0.95), wobble=0.05)
    other = (size - chance.uniform(0.0, 0.2)).clamp(min=0)
    left = canvas.blob(0.45, 0.02, (other, other * 0.9), wobble=0.06)
    heart_size = canvas.along((-0.1, 1.0), (0.08, 0.85), (0.18, 0.0)) * chance.uniform(0.85, 1.1)
    heart = canvas.blob(0.1, -0.22, (0.46 * heart_size, 0.33 * heart_size), turn=0.45)
    middle = canvas.blob(0.0, 0.3, (0.24, 0.3), wobble=0.1)  # the mediastinum in front of the spine
    space = both(both(right, left), middle)
    lung = torch.minimum(cavity, -torch.maximum(space, heart + 0.03))
    spots = (canvas.noise(5.0, 3.0) - 1.8).clamp(0, 1) * 800
    canvas.paint(lung, -850 + spots, softness=1.5)
    blood = 0.5 * (hu["aorta"] + hu["cava"])
    canvas.paint(torch.minimum(heart, cavity - 0.02), hu["muscle"] + 0.3 * (blood - hu["muscle"]))
    for u, v in ((0.0, -0.28), (0.27, -0.17)):
        chamber = canvas.blob(u, v, (0.16 * heart_size, 0.2 * heart_size), turn=0.5, wobble=0.15)
        canvas.paint(torch.minimum(chamber, heart - 0.05), blood, softness=2)
    return torch.minimum(cavity, space)


def paint_spleen(canvas: Canvas, patient: Patient, space: Tensor) -> None:
    """Paint the spleen against the wall; its grey is often that of the liver."""
    chance = canvas.chance
    tip = chance.uniform(0.62, 0.95)
    size = canvas.along((0.03, 0.0), (0.1, 0.6), (0.3, 1.0), (tip - 0.15, 0.8), (tip, 0.0))
    size = size * chance.uniform(0.75, 1.25)
    spleen = canvas.blob(0.74, 0.18, (0.24 * size, 0.42 * size), turn=0.35, wobble=0.12)
    hollow = canvas.blob(0.4, 0.02, (0.3, 0.34), turn=0.3)
    spleen = torch.minimum(torch.minimum(spleen, -hollow), space - chance.uniform(-0.01, 0.02))
    mottle = 6.0 * (patient.hu["aorta"] > 200)  # an arterial spleen is not yet evenly filled
    canvas.paint(spleen, patient.hu["spleen"] + (2 + mottle) * canvas.noise(2.0, 1.0))


def paint_liver(canvas: Canvas, patient: Patient, space: Tensor) -> Tensor:
    """Paint gallbladder and liver with its vessels and lesions; return the depth of the liver."""
    chance, hu = canvas.chance, patient.hu
    size = chance.uniform(0.76, 1.05)
    tip, slim = chance.uniform(0.92, 1.12), chance.uniform(0.6, 1.3)  # it ends in a flat tongue
    right_u = canvas.along((0.0, -0.42), (0.3, -0.46), (0.6, -0.6), (0.95 * tip, -0.83))
    right_u = right_u - 0.55 * (1 - size)  # a small liver still leans on the ribs
    right_v = canvas.along((0.0, 0.0), (0.3, -0.03), (0.7, 0.04), (1.0, 0.1))
    wide = canvas.along(
        (0.0, 0.0), (0.03, 0.16), (0.12, 0.36), (0.3, 0.56), (0.5, 0.53), (0.7, 0.36),
        (0.85 * tip, 0.19 * slim), (0.96 * tip, 0.12 * slim), (tip, 0.0),
    ) * size  # fmt: skip
    high = canvas.along(
        (0.0, 0.0), (0.03, 0.16), (0.12, 0.36), (0.3, 0.6), (0.5, 0.62), (0.7, 0.54),
        (0.85 * tip, 0.42), (0.96 * tip, 0.3), (tip, 0.0),
    ) * size  # fmt: skip
    right = canvas.blob(
        right_u, right_v, (wide, high), turn=chance.uniform(-0.1, 0.25), wobble=0.12
    )
    end = chance.uniform(0.6, 0.95)
    reach = canvas.along((0.08, 0.0), (0.18, 0.7), (0.32, 1.0), (end - 0.12, 0.75), (end, 0.0))
    reach = reach * chance.uniform(0.7, 1.25)
    left = canvas.blob(
        -0.06, -0.36, (0.56 * reach, 0.25 * reach), turn=chance.uniform(-0.3, 0.1), wobble=0.18
    )
    hilum_size = canvas.along((0.28, 0.0), (0.45, 1.0), (0.9, 1.4)) * chance.uniform(0.7, 1.2)
    hilum = canvas.blob(0.03, 0.07, (0.28 * hilum_size, 0.26 * hilum_size), wobble=0.2)
    # Lean patients have no fat between the liver and the wall: muscle of the same grey adjoins.
    liver = torch.minimum(both(right, left), space - chance.uniform(-0.02, 0.0))
    bed_size = canvas.along((0.38, 0.0), (0.6, 1.0), (0.9, 1.2)) * chance.uniform(0.8, 1.15)
    bed = canvas.blob(-0.3, 0.42, (0.3 * bed_size, 0.27 * bed_size), turn=-0.5, wobble=0.15)
    liver = torch.minimum(liver, -torch.maximum(hilum, bed))  # make room for vessels and kidney

    # The dome is cut at a flat angle, so its edge is spread over several pixels.
    softness = column(canvas.along((0.0, 4.0), (0.2, 1.5), (0.8, 1.5), (1.0, 3.0)))
    canvas.paint(
        liver, hu["liver"] + 2.5 * canvas.noise(1.5, 1.0), softness=softness, is_liver=True
    )
    branches = _branches(canvas, right_u, right_v, wide, high)
    canvas.paint(torch.minimum(branches, liver - 0.03), hu["veins"], is_liver=True)

    for _ in range(int(chance.uniform(0, 5.5))):
        # A ball somewhere in the right lobe: its section shrinks away from its own level.
        at, radius = chance.uniform(0.12, 0.8), chance.uniform(0.05, 0.26)
        section = (radius**2 - (1.6 * (canvas.level - at)).square()).clamp(min=0).sqrt()
        angle, away = chance.uniform(0, 2 * math.pi), chance.uniform(0.1, 0.85)
        ball = canvas.blob(
            right_u + away * math.cos(angle) * wide,
            right_v + away * math.sin(angle) * high,
            (section, section), wobble=0.2,
        )  # fmt: skip
        ball = torch.minimum(ball, liver - 0.02)
        contrast = chance.uniform(12, 35) if chance.happens(0.25) else -chance.uniform(20, 75)
        if chance.happens(0.3):
            canvas.paint(ball, hu["liver"] - 0.4 * contrast, softness=2, is_liver=True)
            ball = ball - 0.03
        lesion = hu["liver"] + contrast * (1 + 0.15 * canvas.noise(3.0, 2.0))
        canvas.paint(ball, lesion, softness=2, is_liver=True)

    fissure = canvas.blob(
        chance.uniform(-0.12, 0.08), -0.34, (hilum_size * 0.015, hilum_size * 0.22),
        turn=chance.uniform(-0.4, 0.2),
    )  # fmt: skip
    fissure = fissure - 9.0 * column(canvas.level > end)
    canvas.paint(torch.minimum(fissure, liver + 0.1), FAT + 30)
    bladder_size = canvas.along((0.42, 0.0), (0.5, 0.8), (0.6, 1.0), (0.75, 0.0))
    bladder_size = bladder_size * chance.uniform(0.6, 1.2)
    bladder = canvas.blob(
        canvas.along((0.4, -0.22), (0.75, -0.34)), -0.3,
        (0.11 * bladder_size, 0.16 * bladder_size), turn=chance.uniform(-0.3, 0.6),
    )  # fmt: skip
    canvas.paint(bladder, hu["wall"])
    canvas.paint(bladder - 0.02, chance.uniform(0, 25))
    return liver


def _branches(canvas: Canvas, u: Tensor, v: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """Return the depth of vessels that fan out from the medial side of the right lobe."""
    chance, num_branches = canvas.chance, 9
    fan = torch.linspace(-2.2, 2.2, num_branches) + chance.normals(num_branches) * 0.2
    fan = fan + chance.normals(num_branches) * 0.6 * (canvas.level[:, None] - 0.5)
    start = chance.uniforms(0.0, 0.5, num_branches) * wide[:, None]  # (S, branches)
    end = start + chance.uniforms(0.4, 1.3, num_branches) * wide[:, None]
    # Each branch runs in a sheet of its own, so that a slice shows only some of them.
    middle = chance.uniforms(0.1, 0.75, num_branches)
    seen = 1 - ((canvas.level[:, None] - middle) / 0.16).square()
    thickness = chance.uniforms(0.03, 0.045, num_branches) * seen
    bend = chance.uniforms(-0.4, 0.4, num_branches)
    ripple = 0.015 * canvas.noise(2.0, 1.0)
    du = canvas.u - column(u + 0.6 * wide) + ripple
    dv = canvas.v - column(v + 0.15 * high) + ripple.flip(2)
    depth = torch.full_like(canvas.u, -9.0)
    for branch in range(num_branches):
        here = seen[:, branch] > 0
        cosine, sine = column(-fan[here, branch].cos()), column(fan[here, branch].sin())
        along = du[here] * cosine + dv[here] * sine
        across = dv[here] * cosine - du[here] * sine + bend[branch] * along * along
        near = along.clamp(column(start[here, branch]), column(end[here, branch]))
        radius = column(thickness[here, branch]) * (1.2 - 0.8 * near)
        distance = (across * across + (along - near).square()).sqrt()
        depth[here] = torch.maximum(depth[here], radius - distance)
    return depth


def paint_stomach(canvas: Canvas, patient: Patient, space: Tensor, liver: Tensor) -> None:
    """Paint the stomach beside the liver: wall, meal or contrast, and gas above a level."""
    chance, hu = canvas.chance, patient.hu
    size = canvas.along((0.02, 0.0), (0.1, 0.6), (0.25, 1.0), (0.55, 0.7), (0.68, 0.0))
    size = size * chance.uniform(0.75, 1.15)
    stomach = canvas.blob(
        canvas.along((0.1, 0.5), (0.6, 0.3)), canvas.along((0.1, 0.0), (0.6, -0.3)),
        (0.36 * size, 0.31 * size), turn=chance.uniform(-0.6, 0.1), wobble=0.2,
    )  # fmt: skip
    stomach = torch.minimum(stomach, chance.uniform(-0.01, 0.02) - liver)
    stomach = torch.minimum(stomach, space - 0.02)
    canvas.paint(stomach, hu["wall"])
    inside = stomach - chance.uniform(0.03, 0.07)
    meal = chance.uniform(150, 330) if patient.has_oral_contrast else chance.uniform(0, 50)
    canvas.paint(inside, meal + (4 + 0.1 * meal) * canvas.noise(3.0, 2.0))
    # Patients lie on their back: gas rises to the front and leaves a level.
    gas = canvas.along((0.0, 0.1), (0.7, -0.2)) - chance.uniform(0.05, 0.4)
    canvas.paint(torch.minimum(inside, column(gas) - canvas.straight_v), AIR)


def paint_bowel(canvas: Canvas, patient: Patient, space: Tensor, liver: Tensor) -> None:
    """Paint loops of small bowel and a colon around them, all loops at once."""
    chance, hu = canvas.chance, patient.hu
    num_loops, num_colon = 30, 8
    middle_u = chance.uniforms(-0.5, 0.7, num_loops)
    middle_v = chance.uniforms(-0.55, 0.1, num_loops)
    # The colon frames the belly: up on one side, across the front, down on the other.
    frame = torch.linspace(-2.9, 0.4, num_colon) + chance.normals(num_colon) * 0.1
    middle_u[:num_colon], middle_v[:num_colon] = 0.74 * frame.cos(), 0.46 * frame.sin()
    drift = chance.normals(2, num_loops) * 0.25
    height = canvas.level[:, None] - 0.75  # (S, 1)
    loop_u, loop_v = middle_u + drift[0] * height, middle_v + drift[1] * height  # (S, loops)
    radius = chance.uniforms(0.07, 0.12, num_loops)
    radius[:num_colon] = chance.uniforms(0.09, 0.16, num_colon)
    top = chance.uniforms(0.4, 0.65, num_loops)
    top[:num_colon] = chance.uniforms(0.15, 0.5, num_colon)  # the colon reaches the spleen
    radius = radius * ((canvas.level[:, None] - top) / 0.15).clamp(0, 1).sqrt()
    depth, loop = _nearest_ellipse(canvas, loop_u, loop_v, radius)

    depth = torch.minimum(torch.minimum(depth, space - 0.02), -0.03 - liver)
    canvas.paint(depth, hu["wall"])
    fluid = chance.uniforms(0, 40, num_loops)
    if patient.has_oral_contrast:
        fluid += chance.uniforms(-100, 350, num_loops).clamp(min=0)
    content = fluid[loop] + 10 * canvas.noise(4.0, 2.0)
    stool = -60 + 130 * canvas.noise(6.0, 3.0)
    content = torch.where((loop < num_colon) & (loop % 3 > 0), stool, content)
    canvas.paint(depth - 0.025, content)
    gas = middle_v + chance.uniforms(-0.4, 0.08, num_loops)
    canvas.paint(torch.minimum(depth - 0.025, gas[loop] - canvas.straight_v), AIR)


def _nearest_ellipse(canvas: Canvas, u: Tensor, v: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return depth and index of the nearest of many ellipses; u, v, radius are (S, ellipses)."""
    chance, num_ellipses = canvas.chance, u.shape[1]
    angle = chance.uniforms(0, math.pi, num_ellipses)
    longer = chance.uniforms(1.0, 2.0, num_ellipses)
    shorter = chance.uniforms(0.7, 1.0, num_ellipses)
    # (distance / radius)^2 is a quadratic in u and v: one matrix product serves all ellipses.
    a = (angle.cos() / longer).square() + (angle.sin() / shorter).square()
    b = angle.cos() * angle.sin() * (1 / longer.square() - 1 / shorter.square())
    c = (angle.sin() / longer).square() + (angle.cos() / shorter).square()
    from_u, from_v = a * u + b * v, b * u + c * v
    terms = [a + 0 * u, 2 * b + 0 * u, c + 0 * u, -2 * from_u, -2 * from_v, from_u * u + from_v * v]
    weights = torch.stack(terms, dim=2) / radius.clamp(min=1e-2).square()[..., None]
    ripple = 0.03 * canvas.noise(1.5, 0.7)
    at_u, at_v = canvas.u + ripple, canvas.v + ripple.flip(2)
    basis = torch.stack(
        [at_u * at_u, at_u * at_v, at_v * at_v, at_u, at_v, torch.ones_like(at_u)], dim=1
    )
    distance, index = torch.bmm(weights, basis.flatten(2)).min(dim=1)  # (S, H * W)
    shape, index = canvas.u.shape, index.reshape(canvas.u.shape)
    reach = radius.clamp(min=0).gather(1, index.flatten(1)).reshape(shape)
    depth = reach * (1 - distance.clamp(min=0).sqrt().reshape(shape))
    return depth - 9.0 * (reach < 1e-2), index


def paint_back(canvas: Canvas, patient: Patient, cavity: Tensor) -> None:
    """Paint kidneys, pancreas, the great vessels, the muscles of the back and the spine."""
    chance, hu = canvas.chance, patient.hu
    gland_size = canvas.along((0.38, 0.0), (0.48, 1.0), (0.6, 1.0), (0.7, 0.0))
    gland = canvas.blob(0.12, -0.06, (0.36 * gland_size, 0.07 * gland_size), turn=-0.3, wobble=0.3)
    canvas.paint(gland, hu["gland"] + 10 * canvas.noise(5.0, 2.0))

    for side, start in ((-1.0, chance.uniform(0.32, 0.56)), (1.0, chance.uniform(0.26, 0.48))):
        size = canvas.along(
            (start, 0.0), (start + 0.08, 0.75), (start + 0.22, 1.0), (start + 0.5, 0.8),
            (start + 0.6, 0.0),
        ) * chance.uniform(0.85, 1.15)  # fmt: skip
        u, v, turn = side * chance.uniform(0.36, 0.44), chance.uniform(0.3, 0.38), side * 0.5
        kidney = canvas.blob(u, v, (0.17 * size, 0.21 * size), turn=turn)
        rim = chance.uniform(0.0, 0.06)
        canvas.paint(torch.minimum(kidney + rim * column(size), cavity), FAT)
        canvas.paint(kidney, hu["kidney"])
        is_arterial = hu["aorta"] > 200
        canvas.paint(kidney - 0.05, hu["kidney"] - (60 if is_arterial else 5), softness=2)
        sinus = canvas.blob(u - side * 0.07, v - 0.02, (0.1 * (size - 0.5), 0.08 * (size - 0.5)))
        canvas.paint(sinus, FAT + 60)

    cava = canvas.blob(
        canvas.along((0.0, -0.2), (0.5, -0.16), (1.0, -0.12)), canvas.along((0.0, 0.1), (0.5, 0.2)),
        (chance.uniform(0.07, 0.1), chance.uniform(0.05, 0.075)), turn=-0.2,
    )  # fmt: skip
    canvas.paint(cava, hu["cava"])
    radius = chance.uniform(0.055, 0.075)
    for side in (-1.0, 1.0):  # the crura of the diaphragm
        crus = canvas.blob(side * 0.1 + 0.02, 0.24, (0.025, 0.1), turn=side * 0.3)
        canvas.paint(crus - 9.0 * column(canvas.level > 0.75), hu["muscle"])
    aorta_u = canvas.along((0.0, 0.1), (0.6, 0.04))
    canvas.paint(canvas.blob(aorta_u, 0.2, (radius, radius), wobble=0.03), hu["aorta"])

    bulk = chance.uniform(0.85, 1.3)
    for side in (-1.0, 1.0):
        psoas = canvas.along((0.45, 0.0), (0.6, 0.4), (1.0, 0.9), (1.5, 1.2)) * bulk
        away = canvas.along((1.0, 0.23), (1.4, 0.28), (2.0, 0.42))
        at = canvas.along((1.0, 0.36), (1.4, 0.28), (2.0, 0.0))
        canvas.paint(canvas.blob(side * away, at, (0.12 * psoas, 0.14 * psoas)), hu["muscle"])
        strength = canvas.along((1.4, 1.0), (1.9, 0.3)) * bulk
        back = canvas.blob(side * 0.22, 0.63, (0.21 * strength, 0.15 * strength), turn=side * 0.1)
        back = torch.minimum(back, cavity + 1.6 * WALL)
        canvas.paint(back, hu["muscle"] - 8 * canvas.noise(4.0, 2.0).abs())
    for side in (-1.0, 1.0):
        canvas.paint(canvas.blob(side * 0.15, 0.5, (0.1, 0.022), turn=side * 0.35), 300.0)
        canvas.paint(canvas.blob(side * 0.06, 0.55, (0.018, 0.08), turn=side * 0.7), CORTEX)
    canvas.paint(canvas.blob(0.0, 0.67, (0.018, 0.09), wobble=0.2), 350.0)
    body = canvas.blob(0.0, 0.36, (chance.uniform(0.12, 0.15), chance.uniform(0.09, 0.115)))
    canvas.paint(body, CORTEX)
    canvas.paint(body - 0.018, MARROW + 25 * canvas.noise(5.0, 3.0))
    canvas.paint(canvas.blob(0.0, 0.5, (0.06, 0.05), wobble=0.03), 25.0)


def paint_pelvis(canvas: Canvas, patient: Patient, cavity: Tensor) -> None:
    """Paint what lies below the belly: buttocks, hip bones, sacrum and urinary bladder."""
    chance, hu = canvas.chance, patient.hu
    within = cavity + WALL + 0.5 * patient.fat
    crest = chance.uniform(1.2, 1.35)  # the level of the tops of the hip bones
    grown = canvas.along((crest, 0.0), (crest + 0.1, 0.4), (crest + 0.5, 1.0))
    bulk = chance.uniform(0.85, 1.2)
    for side in (-1.0, 1.0):
        wide, high = 0.26 * grown * bulk, 0.44 * grown * bulk
        buttock = canvas.blob(side * 0.72, 0.32, (wide, high), turn=side * 0.5, wobble=0.1)
        muscle = hu["muscle"] - 8 * canvas.noise(4.0, 2.0).abs()
        canvas.paint(torch.minimum(buttock, within), muscle)
        inner = canvas.blob(side * 0.5, 0.12, (0.13 * grown, 0.34 * grown), turn=side * 0.55)
        canvas.paint(torch.minimum(inner, within), muscle)
        bone = canvas.blob(
            side * canvas.along((crest, 0.66), (crest + 0.6, 0.56)), 0.2,
            (0.05 * grown.sqrt(), 0.42 * grown), turn=side * chance.uniform(0.5, 0.7), wobble=0.2,
        )  # fmt: skip
        canvas.paint(torch.minimum(bone, within), CORTEX)
        canvas.paint(torch.minimum(bone, within) - 0.02, MARROW)
    broad = canvas.along((crest + 0.15, 0.0), (crest + 0.35, 1.0), (crest + 0.9, 0.7))
    sacrum = canvas.blob(0.0, canvas.along((1.4, 0.42), (2.0, 0.58)), (0.32 * broad, 0.15 * broad))
    canvas.paint(sacrum, CORTEX)
    canvas.paint(sacrum - 0.02, MARROW + 30 * canvas.noise(5.0, 3.0))
    full = canvas.along((crest + 0.5, 0.0), (crest + 0.7, 1.0)) * chance.uniform(0.4, 1.3)
    bladder = canvas.blob(0.0, -0.1, (0.3 * full, 0.24 * full))
    canvas.paint(bladder, hu["wall"])
    canvas.paint(bladder - 0.025, chance.uniform(0, 25))
