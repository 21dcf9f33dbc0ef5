"""Words and values, refused in a sentence.

Reading order: ``commandline`` (the words after a command), ``mistakes`` (how one is told),
``rules`` (what a value must be), ``classes`` (a section against the class it names), ``building``
(parts built for trial), ``devices`` (what this computer has). From ``rules`` on they need torch and
Lightning, which take seconds, so these are imported by their own names.
"""

from liverseg.settings.commandline import (
    check_overrides,
    prepare_command,
    refuse_bad_overrides,
    what_blocks,
)
from liverseg.settings.mistakes import find_sentence, told_in_one_sentence
from liverseg.settings.words import all_keys, nearest, nearest_key

__all__ = [
    "all_keys",
    "check_overrides",
    "find_sentence",
    "nearest",
    "nearest_key",
    "prepare_command",
    "refuse_bad_overrides",
    "told_in_one_sentence",
    "what_blocks",
]
