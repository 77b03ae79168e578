//! The machine a measurement was made on, for its report.

use std::fs;

use serde::{Deserialize, Serialize};

/// What a reader needs to judge a figure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Threads the bench may use.
    pub(crate) cpus: usize,
    /// Memory, in bytes; 0 when unknown.
    pub(crate) memory_bytes: u64,
    /// Kernel and architecture.
    pub(crate) system: String,
}

impl Machine {
    /// This machine, as far as /proc tells; elsewhere the fields stay empty.
    pub(crate) fn this() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split(' ').next().and_then(|number| number.parse::<u64>().ok()))
            .unwrap_or(0);
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_kib * 1024,
            system: format!("{} {} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH),
        }
    }

    /// In one line.
    pub(crate) fn shown(&self) -> String {
        format!("{} × {}, {:.0} GB memory, {}", self.cpus, self.cpu, self.memory_bytes as f64 / 1e9, self.system)
    }
}
