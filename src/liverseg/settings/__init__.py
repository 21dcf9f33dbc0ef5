"""Words and values, refused in a sentence.

Reading order: ``commandline`` (the words after a command), ``paths`` (``~``, and what cannot be
written), ``words`` (the nearest one), ``mistakes`` (how one is told), ``values`` (what a value must
be, by its type hint), ``classes`` (a section against the class it names). The last two need
pydantic, so they are imported by their own names.
"""

from liverseg.settings.commandline import (
    parse_override,
    prepare_command,
    refuse_bad_overrides,
    what_is_lacking,
)
from liverseg.settings.mistakes import find_sentence, told_in_one_sentence
from liverseg.settings.paths import as_hydra_reads_it, expand_home, what_blocks
from liverseg.settings.words import all_keys, nearest, nearest_key, remedy, walk

__all__ = [
    "all_keys",
    "as_hydra_reads_it",
    "expand_home",
    "find_sentence",
    "nearest",
    "nearest_key",
    "parse_override",
    "prepare_command",
    "refuse_bad_overrides",
    "remedy",
    "told_in_one_sentence",
    "walk",
    "what_blocks",
    "what_is_lacking",
]
