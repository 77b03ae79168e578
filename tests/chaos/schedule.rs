//! What happens, by the seed.

use quire_tests::Random;

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

impl Fault {
    /// The next one.
    pub(crate) fn any(random: &mut Random) -> Fault {
        match random.between(0, 9) {
            0..=2 => Fault::KillLeader,
            3..=4 => Fault::KillFollower,
            5 => Fault::KillMajority,
            6 => Fault::RestartNode,
            7..=8 => Fault::KillCompute,
            _ => Fault::KillEverything,
        }
    }
}

impl Action {
    /// The next one.
    pub(crate) fn any(random: &mut Random) -> Action {
        match random.between(0, 99) {
            0..=29 => Action::Keyed(random.between(1, 3)),
            30..=39 => Action::Keyed(random.between(10, 60)),
            40..=69 => Action::Plain(random.between(1, 5)),
            70..=79 => Action::Block(random.between(1, 10)),
            80..=84 => Action::Undone(random.between(1, 10)),
            85..=89 => Action::Copy(random.between(1, 500)),
            90 => Action::Copy(random.between(70_000, 72_000)),
            _ => Action::Doubled(random.between(1, 5)),
        }
    }
}
