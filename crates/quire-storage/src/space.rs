//! Room on the disk: new rows are refused while there is still enough of it for everything that was accepted.

use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use quire_kit::clock::{self, Instant};

/// How long an answer holds: at a hundred megabytes a second the reserve lasts longer.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(200);
/// Kept free, unless the disk is small: the log's files, a flush of each family of keys, a state machine snapshot.
const RESERVE_BYTES_MAX: u64 = 512 << 20;
/// Of a small disk, this share is kept free.
const RESERVE_SHARE: u64 = 32;

/// Watches one directory's disk.
pub(crate) struct Space {
    dir: PathBuf,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Space {
    pub(crate) fn new(dir: PathBuf) -> Space {
        Space { dir, last: Mutex::new(None) }
    }

    /// Is there room for more? If not, why.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut last = self.last.lock();
        if let Some((_, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < ANSWER_AGE_MAX) {
            return answer.clone();
        }
        let answer = self.look();
        *last = Some((clock::now(), answer.clone()));
        answer
    }

    /// Free bytes of the disk, and all of them; `None` when that cannot be seen.
    pub(crate) fn measure(&self) -> Option<(u64, u64)> {
        match rustix::fs::statvfs(&self.dir) {
            Ok(disk) => Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize))),
            Err(error) => {
                // The write itself will tell.
                tracing::debug!(%error, dir = %self.dir.display(), "cannot look at the disk");
                None
            }
        }
    }

    fn look(&self) -> Result<(), String> {
        let Some((free, total)) = self.measure() else { return Ok(()) };
        let reserve = RESERVE_BYTES_MAX.min(total / RESERVE_SHARE);
        if free >= reserve {
            return Ok(());
        }
        Err(format!("the disk of {} is full: {free} bytes are free, {reserve} are kept for what was accepted", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::Space;

    #[test]
    fn a_directory_that_is_not_there_stops_nobody() {
        assert_eq!(Space::new("/no/such/directory".into()).check(), Ok(()));
    }
}
