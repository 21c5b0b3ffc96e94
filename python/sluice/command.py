"""What the converters' commands share: one sentence and exit code 2 for wrong input, 130 for Ctrl-C."""
import argparse
import os
import re
import signal
import sys

from .runs import RunError


def program_name(command):
    """How a converter was called: sluice-to-wandb when installed, to_wandb.py from scripts/."""
    called = os.path.basename(sys.argv[0])
    return called if called.endswith(".py") else command


def run_command(main):
    signal.signal(signal.SIGTERM, stop)
    sys.stdout.reconfigure(errors="backslashreplace")  # folders may have names that are no text
    try:
        main()
        sys.stdout.flush()
    except RunError as error:
        complain(str(error))
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = 2
    else:
        code = 0
    sys.exit(code)


def complain(text):
    print(" ".join(text.split()), file=sys.stderr)


def stop(*_):
    sys.exit(143)


def seconds(text):
    value = float(text)
    if not 0.01 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 86400 seconds")
    return value


class Parser(argparse.ArgumentParser):
    """One sentence for a wrong option."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parser(name, doc):
    return Parser(prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_following(arguments):
    arguments.add_argument("--follow", action="store_true", help="go on while the runs train, until all are done or Ctrl-C")
    arguments.add_argument("--interval", type=seconds, default=5.0, metavar="S", help="seconds between two looks (default 5)")


def file_name(label):
    """A label as the name of one folder."""
    name = re.sub(r"[/\x00-\x1f\x7f]", "_", label.encode("utf-8", "replace").decode())
    while len(name.encode()) > 200:
        name = name[:-1]
    return name if name.strip(". ") else f"run_{name}"
