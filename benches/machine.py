"""What a measurement says about the machine it was taken on."""

import os
import platform


def machine():
    def field(path, name):
        for line in open(path):
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
        return ""

    return {
        "cpu": field("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": int(field("/proc/meminfo", "MemTotal").split()[0]) * 1024,
        "system": f"{platform.system().lower()} {platform.release()} {platform.machine()}",
    }
