"""Find what ruins a study before it begins: ``python check.py data.root=DIR [preview=true]``."""

import sys

try:
    import hydra
except ModuleNotFoundError:
    sys.exit("this Python has no Hydra; type: source .venv/bin/activate (after make setup)")
from omegaconf import DictConfig

from liverseg.settings import prepare_command, refuse_bad_overrides, told_in_one_sentence


@hydra.main(version_base="1.3", config_path="configs", config_name="check")
def main(config: DictConfig) -> None:
    """Check, say what was found and where it is written, and end with status 1 after an error."""
    from liverseg.experiment import check
    from liverseg.reports import counted, in_words
    from liverseg.runs import short_path

    with told_in_one_sentence():
        findings = check(config)
    print("\n".join(["", *(finding.lines() for finding in findings), ""]))
    counts = counted(findings)
    print(f"{in_words(counts)}\npage    {short_path(config.output_dir)}/report.html")
    if counts["errors"]:
        sys.exit(1)


if __name__ == "__main__":
    with told_in_one_sentence(ends_command=True):
        prepare_command()
        refuse_bad_overrides(__file__, "check")
        main()
