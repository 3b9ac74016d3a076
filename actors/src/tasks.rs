//! What goes on beside an actor: a task, and time that passes for it. Tokio's; where a simulation runs, its own, so that a
//! story can be told again.

use std::{future::Future, time::Duration};

#[cfg(test)]
use crate::tests::sim::beside;

/// Does some work beside.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    #[cfg(test)]
    let Some(work) = beside::take(work) else { return };
    tokio::spawn(work);
}

/// Lets time pass.
pub(crate) async fn sleep(time: Duration) {
    #[cfg(test)]
    if let Some(sleep) = beside::sleep(time) {
        return sleep.await;
    }
    tokio::time::sleep(time).await;
}

/// What comes of some work, if that is within this time.
pub(crate) async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (late, work) = (std::pin::pin!(sleep(time)), std::pin::pin!(work));
    tokio::select! {
        biased;
        done = work => Some(done),
        () = late => None,
    }
}
