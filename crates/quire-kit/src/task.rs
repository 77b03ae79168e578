//! Named tasks.

use std::future::Future;

pub use tokio::task::JoinHandle;

/// Starts a task on the current runtime. The name appears in traces.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    use tracing::Instrument;
    tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
}

/// Runs CPU-heavy or blocking work off the runtime's threads.
///
/// Resumes the closure's panic in the caller.
pub async fn blocking<F, T>(work: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("the runtime is shutting down: {cancelled}"),
        },
    }
}

/// Waits for a future where nothing can be awaited: in a function that a library calls on one of the runtime's threads.
///
/// The thread's other tasks move elsewhere meanwhile, which the runtime must have several threads for.
pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// Polls a future that works for long without waiting: meanwhile the thread's other tasks move elsewhere, those too that nobody else
/// could have taken over (a task that was just woken waits for its thread).
pub fn aside<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |context| aside_now(|| future.as_mut().poll(context)))
}

/// The same for work without waiting.
pub fn aside_now<T>(work: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::try_current().is_ok_and(|h| h.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}
