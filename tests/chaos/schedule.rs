//! What happens, by the seed.

/// A stream of numbers: splitmix64. The same seed and stream give the same numbers on every machine, for ever.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillLeader,
    KillFollower,
    KillMajority,
    /// SIGTERM.
    RestartNode,
    KillCompute,
    KillEverything,
}

/// What a client does in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// One INSERT of so many rows into the table with a key.
    Keyed(u64),
    /// One INSERT of so many rows into the table without: a doubled effect would be seen there.
    Plain(u64),
    /// A block with an INSERT into each.
    Block(u64),
    /// The same, and then ROLLBACK.
    Undone(u64),
    /// COPY of so many rows into the table with a key.
    Copy(u64),
    /// An INSERT whose last row has a key that is there: it must fail.
    Doubled(u64),
}

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn fault(&mut self) -> Fault {
        match self.between(0, 9) {
            0..=2 => Fault::KillLeader,
            3..=4 => Fault::KillFollower,
            5 => Fault::KillMajority,
            6 => Fault::RestartNode,
            7..=8 => Fault::KillCompute,
            _ => Fault::KillEverything,
        }
    }

    pub(crate) fn action(&mut self) -> Action {
        match self.between(0, 99) {
            0..=29 => Action::Keyed(self.between(1, 3)),
            30..=39 => Action::Keyed(self.between(10, 60)),
            40..=69 => Action::Plain(self.between(1, 5)),
            70..=79 => Action::Block(self.between(1, 10)),
            80..=84 => Action::Undone(self.between(1, 10)),
            85..=89 => Action::Copy(self.between(1, 500)),
            90 => Action::Copy(self.between(70_000, 72_000)),
            _ => Action::Doubled(self.between(1, 5)),
        }
    }
}
