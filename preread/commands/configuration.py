"""`preread config`: write, check and show the settings; make a password's hash."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from config.loading import check as problems_of
from config.loading import load_settings, render_default, settings_file
from preread.commands.options import EXIT_USAGE, Config, Json, fail, print_json, wrong_use

PASSWORD_LENGTH_MIN = 10

app = typer.Typer(no_args_is_help=True, help="The settings of this node.")


@app.command()
def init(
    path: Annotated[Path | None, typer.Argument(help="File to write; standard output without it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
) -> None:
    """Write a commented settings file with every default."""
    if path is None:
        sys.stdout.write(render_default())
        return
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(render_default())
    except FileExistsError:
        raise fail(f"{path} exists. Name another file, or overwrite it with --force.") from None
    except OSError as error:
        raise fail(f"{path} cannot be written: {error.strerror}. Choose a folder you may write to.") from None
    sys.stderr.write(f"preread: wrote {path}. Check it with `preread config check --config {path}`.\n")


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Name file, line, reason and remedy of each error in the settings."""
    problems = problems_of(config)
    if as_json:
        print_json([{"where": p.where, "setting": p.setting, "reason": p.reason} for p in problems])
    elif problems:
        sys.stdout.write("\n".join(str(problem) for problem in problems) + "\n")
    else:
        file = settings_file(config)
        sys.stdout.write(f"{file or 'no file, all defaults'}: no problem found\n")
    if problems:
        raise typer.Exit(EXIT_USAGE)


@app.command()
def show(config: Config = None, as_json: Json = False) -> None:
    """Print the settings in force: file, environment and defaults together, without password hashes."""
    tree = _without_secrets(load_settings(config).model_dump(mode="json"))
    if as_json:
        print_json(tree)
        return
    import yaml

    sys.stdout.write(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


@app.command()
def password() -> None:
    """Ask for a password and print its hash, for web.logins[].password_hash."""
    from preread.web.passwords import password_hash

    if sys.stdin.isatty():
        chosen = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        chosen = sys.stdin.readline().rstrip("\n")
    if len(chosen) < PASSWORD_LENGTH_MIN:
        raise wrong_use(f"a password has at least {PASSWORD_LENGTH_MIN} characters. Choose a longer one.")
    sys.stdout.write(password_hash(chosen) + "\n")


@app.command()
def token() -> None:
    """Make a token for a peer that sends by STOW-RS: the token, then its hash for peers[].token_hash."""
    from config.tokens import new_token, token_hash

    made = new_token()
    sys.stderr.write("preread: give the token to the peer; only its hash stands in the settings.\n")
    sys.stdout.write(f"{made}\n{token_hash(made)}\n")


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(child, key) for key, child in value.items()}
    if isinstance(value, list):
        return [_without_secrets(child) for child in value]
    if name in ("password_hash", "token_hash") and value is not None:
        return "***"
    if name == "url" and isinstance(value, str) and "@" in value:
        scheme, _, rest = value.partition("://")
        user, _, place = rest.rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}:***@{place}"
    return value
