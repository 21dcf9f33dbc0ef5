"""Train and judge segmentation networks on image/mask pairs.

Reading order: ``pairs`` (what a sample is), ``phantom`` (the embedded pairs), ``transforms``,
``folds``, ``datamodule`` (splits and loaders), ``unet`` (the network), ``sizes``, ``losses``,
``metrics`` (which Dice), ``task`` (one step for all splits), ``pictures`` (how a case is drawn),
``gallery`` (which ones, and when), ``dashboard``, ``charts`` (the curves of a run), ``prediction``,
``checkpoints`` (back from a file), ``resume``, ``stopping``, ``provenance``, ``experiment`` (from
config to result), ``launch``, ``ranks`` and ``worker`` (one process per device), ``sweeps`` (many
runs), ``settings``, ``commandline``, ``mistakes``.

Beside the line stand ``anatomy`` (map sizes and receptive field, measured) with ``diagrams``, and
``files``, ``locks`` and ``processes`` (of the operating system).
"""
