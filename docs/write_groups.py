"""Write the table of config groups and their choices into README.md.

A choice is a file of ``configs/GROUP/``; what the table says of it is the file's first comment.

    python docs/write_groups.py
"""

import re
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- groups: written by make groups -->"
END = "<!-- groups: end -->"


def main() -> None:
    """Bring README.md up to date."""
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), ROOT / "configs"))


def updated(text: str, configs: Path) -> str:
    """Return a text whose table, between the two markers, shows a folder of configs.

    Raises:
        ValueError: If the markers are missing, or a config has no comment to be described by.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs a line {BEGIN} and a line {END}")
    return f"{head}{BEGIN}\n{table(configs)}\n{END}{tail}"


def table(configs: Path) -> str:
    """Return the table: a row for each choice, the groups in the order of ``train.yaml``."""
    chosen = defaults(configs / "train.yaml") | defaults(configs / "evaluate.yaml")
    found = {path.parent.relative_to(configs).as_posix() for path in configs.rglob("*/*.yaml")}
    groups = [group for group in chosen if group in found]
    lines = ["| group | choice | |", "|---|---|---|"]
    for group in [*groups, *sorted(found - set(groups))]:
        files = sorted(configs.joinpath(group).glob("*.yaml"))
        files.sort(key=lambda file: file.stem != chosen.get(group))  # the default first
        for file in files:
            name = f"**`{file.stem}`**" if file.stem == chosen.get(group) else f"`{file.stem}`"
            shown = f"`{group}`" if file == files[0] else ""
            lines.append(f"| {shown} | {name} | {description(file)} |")
    return "\n".join(lines)


def defaults(config: Path) -> dict[str, str | None]:
    """Return the choice of each group that a config names."""
    entries = OmegaConf.load(config).defaults
    named = [dict(entry) for entry in entries if OmegaConf.is_dict(entry)]
    return {key.removeprefix("override "): value for one in named for key, value in one.items()}


def description(file: Path) -> str:
    """Return the first comment of a config, a command in it as code.

    Raises:
        ValueError: If there is none before the first key.
    """
    for line in file.read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# "):
            break
        text = line.removeprefix("# ").replace("|", r"\|")
        return re.sub(r"(python \w+\.py.*)$", r"`\1`", text)
    raise ValueError(f"{file} must begin with a comment of one line that says what it is")


if __name__ == "__main__":
    main()
