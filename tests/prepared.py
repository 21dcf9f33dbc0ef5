"""What every command does alike, done once in the process that all of them are forks of.

``forks.py`` has it imported there last, beside what it lists itself.
"""

import atexit
import gc

from hydra.core.global_hydra import GlobalHydra

from liverseg.ending import _shipped

# Hydra's parser remembers how it took words apart: of all kinds that tests type, one.
OVERRIDES = [
    *("model.depth=2", "optimizer.lr=3e-4", "data.root='/tmp/a folder/b_1-2'", "+a.b=null"),
    *("++c=true", "~callbacks.pictures", "data.phantom.num_patients=[4,2,1]", "model=unet_small"),
    *("trainer.max_time=00:00:10:00", "hydra.run.dir=logs/train/runs/first", "seed=1,2"),
]


def _parse() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    OverridesParser.create().parse_overrides(OVERRIDES)


_parse()
_shipped()  # what the report of each run is held against
GlobalHydra.instance().clear()
# What is there now stays: no search for garbage looks at it, so none copies its pages for a fork.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # its last search is for all
