"""Is B better than A? ``python compare.py runs=[A,B,...] [score=dice] [split=val|test]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="compare")
def main(config: DictConfig) -> None:
    """Compare, and say which is better and where everything is."""
    from liverseg.checks import check_settings
    from liverseg.reports import compare_runs
    from liverseg.runs import short_path

    with told_in_one_sentence():
        check_settings(config)
        lines, report = compare_runs(config)
    print("\n".join(["", *lines, "", f"page    {short_path(report)}"]))


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "compare")
        main()
