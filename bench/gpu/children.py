"""Child processes that are ended when they are silent or the time is up, and the clock that says so."""
import pathlib
import queue
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START = time.time()
GRACE = 30  # seconds behind --limit that a child that has begun may still take
TIME_IS_UP = 125  # exit code of a child that was ended for that


def elapsed():
    return time.time() - START


def say(text):
    print(f"[{elapsed():6.1f} s] {text}", flush=True)


class Process:
    """A child whose lines come as they are printed, and that is ended when it says nothing for too long, or `until`
    seconds after the start of all."""

    def __init__(self, arguments, text="", until=1e9):
        self.errors, self.until = tempfile.TemporaryFile("w+"), until
        self.child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.errors, text=True, cwd=ROOT)
        self.queue, self.code, self.why = queue.Queue(), None, ""

        def read():
            for line in self.child.stdout:
                self.queue.put(line.rstrip("\n"))
            self.queue.put(None)

        def write():
            try:
                self.child.stdin.write(text)
                self.child.stdin.close()
            except OSError:
                pass
        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def lines(self, silence):
        """Its lines; afterwards `code` and `why`, which is the end of stderr."""
        wait = silence
        try:
            while True:
                wait = min(silence, self.until - elapsed())
                line = self.queue.get(timeout=max(wait, 0.01))
                if line is None:
                    break
                yield line
            self.code = self.child.wait()
        except queue.Empty:
            self.why = "the time is up" if wait < silence else f"nothing was heard for {silence} s"
            self.code = TIME_IS_UP if wait < silence else 124
        finally:
            if self.child.poll() is None:
                self.child.kill()
                self.child.wait()
            if self.code is None:  # its reader had enough
                self.code = 124
            with self.errors:
                self.errors.seek(0)
                self.why = (self.why + " " + self.errors.read().strip()[-400:]).strip()


def command(*arguments, timeout=120, until=1e9):
    """Exit code, stdout and the last words of stderr."""
    wait = max(min(timeout, until - elapsed()), 0.01)
    try:
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=wait, cwd=ROOT)
        return done.returncode, done.stdout, done.stderr.strip()[-500:]
    except subprocess.TimeoutExpired:
        return (TIME_IS_UP, "", "the time is up") if wait < timeout else (124, "", f"ran longer than {timeout} s")
    except OSError as problem:
        return 127, "", str(problem)
