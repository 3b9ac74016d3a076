//! A bounded queue from many tasks to few threads. Full is an answer, never a wait. Wakes nobody who is awake: under
//! load the threads never sleep, and pushing costs no system call.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    max: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    asleep: usize,
    closed: bool,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize) -> Queue<T> {
        let state = State { waiting: VecDeque::with_capacity(64), asleep: 0, closed: false };
        Queue { state: Mutex::new(state), wake: Condvar::new(), max }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Turned> {
        let mut state = self.lock();
        if state.closed {
            return Err(Turned::Closed);
        }
        if state.waiting.len() >= self.max {
            return Err(Turned::Full);
        }
        state.waiting.push_back(item);
        let wake = state.asleep > 0;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for one item; `None`: closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.filled();
        state.waiting.pop_front()
    }

    /// Waits for something, then moves up to `max` items into `batch`. False: closed and empty.
    pub(super) fn drain(&self, max: usize, batch: &mut VecDeque<T>) -> bool {
        let mut state = self.filled();
        let n = state.waiting.len().min(max);
        batch.extend(state.waiting.drain(..n));
        n > 0
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes nothing more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Takes nothing more and drops what waits.
    pub(super) fn abandon(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.wake.notify_all();
        drop(dropped);
    }

    fn filled(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            state.asleep += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_so_and_keeps_what_it_has() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(Turned::Full)));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.push(3), Ok(()));
        queue.close();
        assert_eq!(queue.push(4), Err(Turned::Closed));
        let mut rest = VecDeque::new();
        assert!(queue.drain(10, &mut rest));
        assert_eq!(rest, [2, 3]);
        assert!(!queue.drain(10, &mut rest));
    }
}
