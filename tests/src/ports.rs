//! Ports for the processes of a test, although many tests run at once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// Ports of one test. A `quire dev` of 3 storage and 8 compute nodes fits.
const BLOCK: u16 = 16;
/// Below where systems take the ports of outgoing connections from, so that none of those is in the way.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = (32_000 - FIRST) / BLOCK;

/// A block of consecutive ports that no other test uses while this lives.
pub(crate) struct Ports {
    /// Holds the block's first port, and so the block, against other test processes.
    _claim: TcpListener,
    first: u16,
    taken: u16,
}

impl Ports {
    pub(crate) fn claim() -> Result<Ports> {
        // Tests that start together look in different places first.
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        for i in 0..BLOCKS {
            let first = FIRST + (start + i) % BLOCKS * BLOCK;
            let Ok(claim) = TcpListener::bind((Ipv4Addr::LOCALHOST, first)) else { continue };
            if (first + 1..first + BLOCK).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
                return Ok(Ports { _claim: claim, first, taken: 1 });
            }
        }
        bail!("no free block of {BLOCK} ports from {FIRST}")
    }

    /// The first of so many consecutive ports.
    pub(crate) fn take(&mut self, count: u16) -> Result<SocketAddr> {
        if self.taken + count > BLOCK {
            bail!("a test has {} ports, this one wants more", BLOCK - 1);
        }
        let port = self.first + self.taken;
        self.taken += count;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

/// The address `i` ports on.
pub(crate) fn nth(first: SocketAddr, i: u16) -> SocketAddr {
    SocketAddr::new(first.ip(), first.port() + i)
}
