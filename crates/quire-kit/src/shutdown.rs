use tokio_util::sync::CancellationToken;

/// Tells many tasks to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Not triggered yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Tells everyone.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// True once triggered.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes once triggered.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// A part that can be stopped alone and stops with the whole.
    pub fn child(&self) -> Shutdown {
        Shutdown(self.0.child_token())
    }
}
