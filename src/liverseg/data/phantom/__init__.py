"""The embedded default data set: synthetic axial CT slices of the abdomen and their liver.

Everything is drawn in Hounsfield units (HU) and for all slices of a patient at once. A slice is
known by its level: 0 is the dome of the liver, 1 about its lower tip, 2 the pelvis. Organs are
painted back to front in body coordinates: the origin is the middle of the body cavity, u points to
the right of the picture (the left of the patient), v to the back, and the cavity reaches from
u = -1 to u = 1.

Reading order: ``patient`` (what differs between people), ``canvas`` (shapes in HU), ``organs``,
``drawing`` (organs and scanner, to grey values), ``writing`` (the folder of pairs).
"""

from liverseg.data.phantom.drawing import draw_patient
from liverseg.data.phantom.writing import SPLITS, Phantom, write_phantom

__all__ = ["SPLITS", "Phantom", "draw_patient", "write_phantom"]
