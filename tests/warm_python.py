"""A Python that has imported TensorFlow already: what stands for `sys.executable` where a test starts a process.

Every program runs in a process of its own, a fork of one that imported Keras and did nothing else. Standard streams,
environment, folder, signals and exit status are those of its caller, and what it starts itself is warm too. Only how
TensorFlow is imported cannot be tested so. The variable EAGERLY makes compiled functions run step by step.
"""

import faulthandler
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

CLIENT = """\
#!{python} -SE
import json, os, signal, socket, sys

if len(os.listdir("/dev/fd")) > 4:  # beside the standard streams something else was handed on
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
signal.pthread_sigmask(signal.SIG_BLOCK, wanted := [signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    request = json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    process = int.from_bytes(server.recv(4), "big")
    for each in wanted:
        signal.signal(each, lambda number, frame: os.kill(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
    status = int.from_bytes(server.recv(4), "big", signed=True)
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def serve(folder):
    """Answer the clients `folder / "python"`; returns in the process of a program, with its command line."""
    place, client = folder / "socket", folder / "python"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        client.write_text(CLIENT.format(python=sys.executable, place=str(place)), encoding="utf-8")
        client.chmod(0o700)
        print("ready", flush=True)
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:  # whoever started it is still there
            connection, _ = listening.accept()
            with suppress(ChildProcessError):  # those that have waited for a program
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if "keras" not in sys.modules:
                get_warm()
            if os.fork() == 0:
                listening.close()
                return answer(connection)
            connection.close()
    sys.exit()


def get_warm():
    from nmt.backend import session

    session._prepare_environment()
    with session._held_stderr(), session._collector_at_rest(), session._without_plots():
        import keras  # noqa: F401

        import nmt.inference.translator
        import nmt.recipes.train  # noqa: F401
    session._only_imported = True  # so that a program may still say how TensorFlow runs


def answer(connection):
    """Start a program and wait for it; returns in its process, with its command line."""
    size, streams, *_ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as sent:
        words, environment, folder = json.loads(sent.read(int.from_bytes(size, "big")))
    program = os.fork()
    if program == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return words
    for stream in streams:
        os.close(stream)
    connection.sendall(program.to_bytes(4, "big"))
    while not (ended := os.waitpid(program, os.WNOHANG))[0]:
        if select.select([connection], [], [], 0.02)[0]:  # the client was killed
            os.kill(program, signal.SIGKILL)
    with suppress(BrokenPipeError):
        connection.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "big", signed=True))
    os._exit(0)


def run(client, *words):
    """Run a command line of Python as Python does."""
    sys.executable, words = client, list(words)
    while words[0] in ("-W", "-X"):
        if words[1] == "faulthandler":
            faulthandler.enable()
        del words[:2]
    if "EAGERLY" in os.environ:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
    sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    if words[0] == "-c":
        sys.argv, code = ["-c", *words[2:]], words[1]
        sys.path.insert(0, "")
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    elif words[0] == "-m":
        sys.argv, name = words[1:], words[1]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    run(*serve(Path(sys.argv[1])))
