//! An answer that comes when who asked has crashed: its successor did not ask, and must not take it for its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ractor::Actor;
use tokio::sync::Notify;

use super::TestClock;
use crate::{
    entities::{Entities, Entity, Me, NodeSupervisor, Now, Performed},
    restarts::BACKOFF_MAX,
};

/// Asks something slow when told to, and notes what it hears.
struct Asker;

#[derive(Default)]
struct Slow {
    done: Notify,
    heard: Mutex<Vec<&'static str>>,
}

enum Event {
    Ask(&'static str),
    Answer(&'static str),
    Tick,
}

impl Entity for Asker {
    const KIND: &'static str = "asker";
    const MAILBOX_MAX: usize = 8;
    type Key = u8;
    type Event = Event;
    type Action = Event;
    type Context = Slow;

    fn fresh(_: u8, _: &Arc<Slow>, _: bool) -> Asker {
        Asker
    }

    fn tick() -> Event {
        Event::Tick
    }

    fn on(&mut self, event: Event, _: Now) -> Vec<Event> {
        vec![event]
    }

    fn perform(event: Event, me: &Me<Asker>, slow: &Arc<Slow>) -> Performed {
        match event {
            Event::Ask(what) => {
                let (me, slow) = (me.clone(), slow.clone());
                tokio::spawn(async move {
                    slow.done.notified().await;
                    me.tell(Event::Answer(what));
                });
            }
            Event::Answer(what) => slow.heard.lock().unwrap().push(what),
            Event::Tick => {}
        }
        Performed::Done
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_crashed_actor_is_lost_and_never_its_successors() {
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    let (root, _) = Actor::spawn(None, NodeSupervisor, ()).await.unwrap();
    let slow = Arc::new(Slow::default());
    let askers = Entities::<Asker>::start(&root.get_cell(), clock, slow.clone(), |_, _, _| {}).await.unwrap();

    askers.tell(1, Event::Ask("the first")).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    askers.kill(1);
    tokio::time::sleep(BACKOFF_MAX).await;
    askers.tell(1, Event::Ask("the second")).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    slow.done.notify_waiters();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(*slow.heard.lock().unwrap(), ["the second"]);
}
