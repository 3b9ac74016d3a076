//! Who reads pages next. A page holds all that was read for it, megabytes, until it is cut to its size, so few are put
//! together at once (G15); and those who ask take turns, so that who asks for a thousand delays nobody but themselves (G16).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::SessionId;
use tokio::sync::oneshot;

/// Pages and answers to `sync` that are put together at once.
const AT_ONCE: usize = 8;

/// Of one node.
pub(crate) struct Turns {
    places: Mutex<Places>,
}

struct Places {
    free: usize,
    waiting: HashMap<SessionId, VecDeque<oneshot::Sender<()>>>,
    /// Sessions of which somebody waits, the next one first.
    order: VecDeque<SessionId>,
}

/// One place; it goes to the next one when it is dropped.
pub(crate) struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().pass_on();
    }
}

impl Turns {
    /// All places are free.
    pub(crate) fn new() -> Turns {
        Turns::of(AT_ONCE)
    }

    fn of(places: usize) -> Turns {
        Turns { places: Mutex::new(Places { free: places, waiting: HashMap::new(), order: VecDeque::new() }) }
    }

    /// Waits for a turn of a session to read pages; it ends with the answer. Who stops waiting is passed over.
    pub(crate) async fn take(&self, session: SessionId) -> Turn<'_> {
        let called = self.lock().come(session);
        // whoever is called has the place, also if it stops waiting at that moment
        let mut waiter = Waiter { turns: self, called };
        if let Some(called) = &mut waiter.called {
            let _ = called.await;
        }
        waiter.called = None;
        Turn(self)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on the place that was given to somebody who had just stopped waiting.
struct Waiter<'t> {
    turns: &'t Turns,
    called: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut places = self.turns.lock();
        // under the lock: nobody is called meanwhile
        if self.called.take().is_some_and(|mut called| called.try_recv().is_ok()) {
            places.pass_on();
        }
    }
}

impl Places {
    /// `None`: there is a place now.
    fn come(&mut self, session: SessionId) -> Option<oneshot::Receiver<()>> {
        if self.free > 0 {
            self.free -= 1;
            return None;
        }
        let (call, called) = oneshot::channel();
        let line = self.waiting.entry(session).or_insert_with(|| {
            self.order.push_back(session);
            VecDeque::new()
        });
        line.push_back(call);
        Some(called)
    }

    /// Calls the next session's first, and puts that session last.
    fn pass_on(&mut self) {
        while let Some(session) = self.order.pop_front() {
            let Some(line) = self.waiting.get_mut(&session) else { continue };
            let called = std::iter::from_fn(|| line.pop_front()).any(|call| call.send(()).is_ok());
            if line.is_empty() {
                self.waiting.remove(&session);
            } else {
                self.order.push_back(session);
            }
            if called {
                return;
            }
        }
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;

    const GREEDY: SessionId = SessionId([1; 16]);
    const MODEST: SessionId = SessionId([2; 16]);

    /// Asks, and comes to the point of waiting.
    fn ask(turns: &Turns, session: SessionId) -> BoxFuture<'_, Turn<'_>> {
        let mut asked = turns.take(session).boxed();
        assert!((&mut asked).now_or_never().is_none(), "there was a place");
        asked
    }

    #[test]
    fn g16_who_asks_for_a_thousand_pages_delays_another_by_one() {
        let turns = Turns::of(1);
        let first = turns.take(GREEDY).now_or_never().unwrap();
        let mut more: Vec<_> = (0..1000).map(|_| ask(&turns, GREEDY)).collect();
        let modest = ask(&turns, MODEST);
        drop(first);
        let second = (&mut more[0]).now_or_never().expect("first come, first served within a session");
        drop(second);
        let _mine = modest.now_or_never().expect("the other session's turn");
        assert!((&mut more[1]).now_or_never().is_none(), "one at a time");
    }

    #[test]
    fn who_stops_waiting_is_passed_over_and_a_place_given_to_them_goes_on() {
        let turns = Turns::of(1);
        let first = turns.take(GREEDY).now_or_never().unwrap();
        let (gone, called, next) = (ask(&turns, GREEDY), ask(&turns, MODEST), ask(&turns, GREEDY));
        drop(gone);
        drop(first);
        // the place is on its way to somebody who no longer looks
        drop(called);
        drop(next.now_or_never().expect("the next one has it"));
        assert!(turns.take(MODEST).now_or_never().is_some(), "nobody waits, the place is free");
        let places = turns.lock();
        assert!(places.free == 1 && places.waiting.is_empty() && places.order.is_empty());
    }
}
