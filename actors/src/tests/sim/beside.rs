//! What `crate::tasks` does where a simulation runs: its tasks and its time. Elsewhere, nothing.

use std::{cell::RefCell, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::clockwork::Clockwork;

thread_local! {
    static HERE: RefCell<Option<Arc<Clockwork>>> = const { RefCell::new(None) };
}

/// While it lives, this thread's tasks are those of the simulation.
pub(super) struct Here;

impl Here {
    pub(super) fn is(works: &Arc<Clockwork>) -> Here {
        HERE.set(Some(works.clone()));
        Here
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// Takes the work over; `None`: it is taken.
pub(crate) fn take<F: Future<Output = ()> + Send + 'static>(work: F) -> Option<F> {
    let Some(works) = HERE.with_borrow(Clone::clone) else { return Some(work) };
    works.spawn(Box::pin(work));
    None
}

/// Time of the simulation.
pub(crate) fn sleep(time: Duration) -> Option<BoxFuture<'static, ()>> {
    let works = HERE.with_borrow(Clone::clone)?;
    Some(Box::pin(works.sleep(time)))
}
