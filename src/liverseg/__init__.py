"""Train and judge segmentation networks on image/mask pairs.

The science reads from left to right, as a slice travels, and a room imports only rooms before it:

    labels  network  scores  data  inspection  training  pictures  prediction

The machinery beside it, ``settings``, ``runs`` and ``sweeps`` (in this order), knows nothing of
segmentation. What joins the two, in this order: ``checks`` (what of a config fits together),
``checkpoints`` (from a file back to objects), ``inference`` (a trained network put to use),
``sharing`` (a model that leaves the house), ``reports`` (pages of one file), ``ending`` (from a
trained network to what a run leaves), ``experiment`` (from config to result), ``launch`` and
``worker`` (one process per device). ``files`` (whole, or as they were) is for all of them.
"""
