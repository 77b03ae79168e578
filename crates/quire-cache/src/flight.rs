//! Single flight: one piece of work for all who ask for the same page at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use quire_kit::task;
use quire_types::PageId;

/// Work under way, by page.
pub(crate) struct Flights<T: Clone> {
    under_way: Arc<Mutex<HashMap<PageId, Shared<BoxFuture<'static, Option<T>>>>>>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Flights<T> {
        Flights { under_way: Arc::default() }
    }

    /// The result of the work for this page, started unless it is under way. `None` when the work panicked.
    /// It is a task of its own: it ends whoever stops waiting.
    pub(crate) async fn join<F>(&self, page: PageId, work: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = {
            let mut under_way = self.under_way.lock();
            match under_way.get(&page) {
                Some(flight) => flight.clone(),
                None => {
                    let landed = Landed { page, under_way: self.under_way.clone() };
                    let work = work();
                    let task = task::spawn("page", async move {
                        let _landed = landed;
                        work.await
                    });
                    let flight = async move { task.await.ok() }.boxed().shared();
                    under_way.insert(page, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

/// Takes the flight off the list when the work ends, however it ends.
struct Landed<T: Clone> {
    page: PageId,
    under_way: Arc<Mutex<HashMap<PageId, Shared<BoxFuture<'static, Option<T>>>>>>,
}

impl<T: Clone> Drop for Landed<T> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.page);
    }
}
