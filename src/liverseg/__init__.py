"""Train and judge segmentation networks on image/mask pairs.

Reading order: ``pairs`` (what a sample is), ``phantom`` (the embedded pairs), ``transforms``,
``datamodule`` (splits and loaders), ``unet`` (the network), ``sizes``, ``losses``, ``metrics``
(which Dice), ``task`` (one step for all splits), ``pictures``, ``prediction``, ``checkpoints``
(back from a file), ``resume``, ``provenance``, ``experiment`` (from config to result), ``launch``
and ``worker`` (one process per device), ``sweep``, ``settings``, ``commandline``, ``mistakes``.
"""
