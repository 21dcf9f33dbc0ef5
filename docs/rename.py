"""Give the package a name of your own, in its folders, imports, configs, documents and tests.

    python docs/rename.py mystudy           or: make rename NAME=mystudy

What the package was called stays known to it, so that checkpoints and runs of before load. The
licence keeps its holder, and the changelog its history.
"""

import keyword
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLD = "liver" + "seg"  # in two parts, so that this line is not renamed
_KEPT = ("LICENSE", "CHANGELOG.md", "docs/rename.py")
_WORD = re.compile(rf"(?<![A-Za-z0-9])(?<!The ){OLD}(?![A-Za-z0-9])")  # "The ... authors" stay


def main() -> None:
    """Rename, or say why not."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if reason := refusal(name, ROOT):
        sys.exit(reason)
    files = rename(name, ROOT)
    tidy(ROOT)
    print(
        f"{files} files now speak of {name}; look at them (git diff), then try them: "
        "make test-fast lint"
    )


def refusal(name: str, root: Path) -> str:
    """Return why a clone cannot get a name, in one sentence; "" if it can."""
    example = "such as NAME=mystudy"
    if not name:
        return f"a name is missing; add one, {example}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_") or "__" in name:
        return (
            f"NAME={name} must be small letters, digits and single underscores, a letter first, "
            f"{example}"
        )
    if len(name) > 40:
        return f"NAME={name} is longer than 40 letters; choose a shorter one, {example}"
    if not (root / "src" / OLD).is_dir():
        found = [one.name for one in (root / "src").glob("*") if (one / "py.typed").is_file()]
        return f"this clone has been renamed already, to {', '.join(found)}; start from a new clone"
    if name == OLD:
        return f"NAME={name} is what the package is called already; choose another, {example}"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in sys.stdlib_module_names:
        return f"NAME={name} is a word or a module of Python itself; choose another, {example}"
    taken = {one.stem for one in root.iterdir()} | {"src", "hydra_plugins", "build", "dist", "logs"}
    if name in taken or find_spec(name) is not None:
        return f"NAME={name} exists already, as a folder, a command or a package; choose another"
    try:
        _git(root, "rev-parse", "--verify", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"{root} is no clone of git, so nothing could be undone; git init and commit first"
    if changed:
        return f"there are changes that are not committed ({changed.split()[1]}); commit them first"
    return ""


def rename(name: str, root: Path) -> int:
    """Rename in all files that git knows, then the files; return how many have changed."""
    changed = 0
    for path in [root / one for one in _git(root, "ls-files", "-z").split("\0") if one]:
        inside = path.relative_to(root).as_posix()
        if path.is_symlink() or not path.is_file() or inside in _KEPT:
            continue
        try:
            with path.open(newline="", encoding="utf-8") as stream:  # as its lines end
                text = stream.read()
        except UnicodeDecodeError:
            continue  # a picture, or a checkpoint of before
        new = _WORD.sub(name, text)
        if inside == f"src/{OLD}/training/earlier.py":
            new = new.replace(
                "FORMER: tuple[str, ...] = ()", f'FORMER: tuple[str, ...] = ("{OLD}",)'
            )
        if new != text:
            with path.open("w", newline="", encoding="utf-8") as stream:
                stream.write(new)
            changed += 1
    plugin = root / "src" / "hydra_plugins" / f"{OLD}_sweeps.py"
    _git(root, "mv", str(plugin), str(plugin.with_name(f"{name}_sweeps.py")))
    _git(root, "mv", f"src/{OLD}", f"src/{name}")
    return changed


def tidy(root: Path) -> None:
    """Order imports anew and break lines, as the linter asks; texts may be longer than before."""
    ruff = [sys.executable, "-m", "ruff"]
    for arguments in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        subprocess.run([*ruff, *arguments, str(root)], check=True, cwd=root)
    too_long = [*ruff, "check", "--select", "E501", "--quiet", str(root)]
    if subprocess.run(too_long, capture_output=True, cwd=root).returncode:
        file = root / "pyproject.toml"
        where = "ignore = [\n"
        rule = '    "E501",  # texts that name the package, which had a shorter name\n'
        file.write_text(file.read_text().replace(where, where + rule, 1))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
