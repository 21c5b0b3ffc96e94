"""Reading metrics.jsonl while a run writes it.

The file grows by whole lines; a run that is resumed or rolled back cuts it to its checkpoint and writes other lines behind
that, and `--resume never` puts a new file in its place. So what was read is remembered by a digest: the file is the same as
long as the bytes before the place that was reached have not changed, and where they have, the lines that are still equal
are kept and the rest is read again.
"""
import hashlib
import time

from .runs import RunError, parse_line, read_object

CHECKED = 4096  # bytes before the place reached that must be the same; with step times in them no two lives share them


class Follower:
    """Calls to poll() give what is new of a metrics.jsonl."""

    def __init__(self, path):
        self.path = path
        self.offset = 0
        self.tail = b""   # the last bytes before the offset
        self.kept = 0     # lines that stayed at the last cut
        self.given = []   # of each line that was read: (its end, its digest, its step or None)

    def poll(self):
        """(cut, lines): the step from which on what was given before no longer holds, or None; and the new lines."""
        try:
            with open(self.path, "rb") as file:
                cut = None if self.still_holds(file) else self.go_back(file)
                file.seek(self.offset)
                return cut, self.take(file.read())
        except FileNotFoundError:
            return None, []  # between the old run's going and the new one's coming
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from error

    def still_holds(self, file):
        file.seek(self.offset - len(self.tail))
        return file.read(len(self.tail)) == self.tail

    def go_back(self, file):
        """To the last place up to which the file is what was read; gives the lowest step that was given behind it."""
        file.seek(0)
        keep, offset = 0, 0
        for end, known, _ in self.given:
            if digest(file.read(end - offset)) != known:
                break
            keep, offset = keep + 1, end
        lost = [step for _, _, step in self.given[keep:] if step is not None]
        del self.given[keep:]
        self.kept = keep
        self.offset = offset
        file.seek(max(0, offset - CHECKED))
        self.tail = file.read(offset - max(0, offset - CHECKED))
        return min(lost, default=None)

    def take(self, data):
        """The whole lines of the data; a last one without its end comes with the next poll."""
        lines = []
        for text in data[:data.rfind(b"\n") + 1].split(b"\n")[:-1]:
            line = None
            where = f"{self.path}, byte {self.offset}"
            if text.strip():
                try:
                    line = parse_line(text.decode("utf-8"), where)
                except UnicodeDecodeError as error:
                    raise RunError(f"{where}: not valid UTF-8") from error
            text += b"\n"
            self.offset += len(text)
            self.tail = (self.tail + text)[-CHECKED:]
            self.given.append((self.offset, digest(text), line["step"] if line else None))
            if line:
                lines.append(line)
        return lines


def digest(text):
    return hashlib.blake2b(text, digest_size=12).digest()


def is_over(run_folder):
    """Whether the run has done all its steps: no more lines will come, unless it is made longer."""
    try:
        return read_object(run_folder / "info.json").get("status") == "done"
    except RunError:
        return False  # being written


def follow(targets, interval):
    """Polls all targets, which have `follower`, `folder` and take(cut, lines), until all are done."""
    waiting = list(targets)
    while True:
        over = [target for target in waiting if is_over(target.folder)]  # before the poll, which gets the rest
        for target in waiting:
            cut, lines = target.follower.poll()
            if cut is not None or lines:
                target.take(cut, lines)
        waiting = [target for target in waiting if target not in over]
        if not waiting:
            return
        time.sleep(interval)
