"""The command line: watches over our package names, then parses and dispatches; one file per noun."""

import sys

import typer

from preread import owned

# Before anything of ours is imported: another distribution's `config` must not get as far as running.
owned.check()

from config.errors import PrereadError  # noqa: E402
from config.loading import SettingsError  # noqa: E402
from preread.commands import configuration, models, queue, services, studies  # noqa: E402
from preread.commands.demo import demo  # noqa: E402
from preread.commands.doctor import doctor  # noqa: E402
from preread.commands.options import EXIT_FAILED, EXIT_USAGE  # noqa: E402
from preread.commands.send import send  # noqa: E402
from preread.commands.version import version  # noqa: E402

app = typer.Typer(
    name="preread",
    help="A DICOM node beside the PACS: receives studies, reads them with CNNs, returns SEG and reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    services.serve,
    services.listener,
    services.worker,
    services.web,
    demo,
    doctor,
    send,
    version,
):
    app.command()(command)
app.add_typer(configuration.app, name="config")
app.add_typer(studies.app, name="studies")
app.add_typer(queue.app, name="queue")
app.add_typer(models.app, name="models")


def main() -> None:
    """Run one command; errors of ours become one message and an exit code, others keep their traceback."""
    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"preread: the settings cannot be used\n{error}\n")
        sys.exit(EXIT_USAGE)
    except PrereadError as error:
        sys.stderr.write(f"preread: {error}\n")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
