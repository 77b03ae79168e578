use std::time::Duration;

use crate::random;

/// Waiting times between retries: exponential, with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, later ones double up to `max`.
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first, max }
    }

    /// The next waiting time.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.next.as_micros().max(1) as u64;
        self.next = (self.next * 2).min(self.max);
        Duration::from_micros(random::below(ceiling) + 1)
    }

    /// Waits for [`Backoff::next_delay`].
    pub async fn wait(&mut self) {
        crate::clock::sleep(self.next_delay()).await;
    }
}
