//! The whole: two nodes, a store, clients, and what may happen next.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
    time::Duration,
};

use protocol::{Millis, peer::ToConversation};
use stateright::{Model, Property};
use tokio::time::Instant;

use super::{
    clients::{Clients, Promise},
    node::{Around, Node, Task},
    partitions::Partitions,
    scenes::{Luck, Scene},
};
use crate::{conversation::state::Input, entities::Now};

const NODES: usize = 2;
/// After every pause that a few failures lead to, and before a request's time is over.
const PAUSE: Duration = Duration::from_millis(1_500);
const DEADLINE: Duration = Duration::from_secs(3);

/// Time stands still but for those who are woken.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the module.
#[derive(Clone)]
pub(super) struct World {
    store: Arc<Partitions>,
    nodes: [Arc<Node>; NODES],
    pub(super) clients: Clients,
    lives: u8,
    crashes: u8,
    faults: u8,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A client sends the next attempt of a request to a node.
    Send(usize, usize),
    /// A call of a node moves on.
    Step(usize, usize, Luck),
    /// A late write is performed.
    Land(usize),
    /// A node's pause is over.
    Wake(usize),
    /// So is the time of all requests that wait at a node.
    Expire(usize),
    Crash(usize),
}

impl World {
    fn new(scene: &Scene) -> World {
        World {
            store: Arc::new(Partitions::new(scene)),
            nodes: [0, 1].map(|nth| Arc::new(Node::new(nth, 0, false, scene))),
            clients: Clients::new(scene),
            lives: 0,
            crashes: scene.crashes,
            faults: scene.faults,
        }
    }

    /// Lets a node do something.
    fn at(&mut self, node: usize, later: Duration, scene: &Scene, act: impl FnOnce(&mut Node, &mut Around<'_>)) {
        let now = Now { mono: *BEGIN + later, wall: Millis(0) };
        let store = Arc::make_mut(&mut self.store);
        act(Arc::make_mut(&mut self.nodes[node]), &mut Around { store, clients: &mut self.clients, scene, now });
    }

    fn crash(&mut self, node: usize, scene: &Scene) {
        self.crashes -= 1;
        if scene.restarts {
            let mut heir = Node::new(node as u8, 0, true, scene);
            heir.tasks = self.nodes[node].orphans();
            self.nodes[node] = Arc::new(heir);
            return self.at(node, Duration::ZERO, scene, |heir, around| heir.feed(Input::Tick, around));
        }
        self.lives += 1;
        let dead = std::mem::replace(&mut self.nodes[node], Arc::new(Node::new(node as u8, self.lives, false, scene)));
        let store = Arc::make_mut(&mut self.store);
        Node::clone(&dead).writes().for_each(|write| store.keep(write, scene.planted));
    }

    /// True if a node waits although nothing is under way that could wake it.
    fn is_stuck(&self) -> bool {
        self.nodes.iter().any(|node| node.tasks.is_empty() && !node.state.is_paused() && !node.state.is_at_rest())
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.store, &self.nodes, &self.clients, self.lives, self.crashes, self.faults).hash(hasher);
    }
}

/// In short: what stands, what is in the log, who believes to own it.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.store)?;
        for node in &self.nodes {
            let busy: Vec<String> = node.tasks.iter().map(Task::in_short).collect();
            write!(f, "; ready {:?}, asks for {busy:?}", node.state.ready().map(|epoch| epoch.0))?;
        }
        write!(f, "; {:?}", self.clients)
    }
}

/// As the checker tells them apart.
impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        let digest = |world: &World| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

impl Model for Scene {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.clients.broken.is_some() {
            return;
        }
        let silent = world.clients.are_silent();
        for (at, write) in world.store.pending.iter().enumerate() {
            if world.store.holds(&write.ask, self.planted) {
                acts.push(Act::Land(at));
            }
        }
        for (node, owner) in world.nodes.iter().enumerate() {
            // which node hears the first request makes no difference
            let sends = (0..3).filter(|which| world.clients.left[*which] > 0 && (node == 0 || !silent));
            acts.extend(sends.map(|which| Act::Send(which, node)));
            if world.crashes > 0 && !(owner.state.is_at_rest() && owner.state.ready().is_none()) {
                acts.push(Act::Crash(node));
            }
            if owner.state.is_paused() {
                acts.push(Act::Wake(node));
            }
            if self.impatient && !owner.state.is_at_rest() {
                acts.push(Act::Expire(node));
            }
            for (at, task) in owner.tasks.iter().enumerate() {
                acts.push(Act::Step(node, at, Luck::Fine));
                let Some(write) = task.write().filter(|_| world.faults > 0) else { continue };
                let holds = world.store.holds(&write, self.planted);
                let possible = |luck: &&Luck| holds || matches!(luck, Luck::Lost | Luck::Away);
                acts.extend(self.lucks.iter().filter(possible).map(|luck| Act::Step(node, at, *luck)));
            }
        }
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut world = last.clone();
        match act {
            Act::Send(which, node) => {
                let request = world.clients.send(which, &world.store, self);
                let mail = Input::Mail(ToConversation::Submit(request));
                world.at(node, Duration::ZERO, self, |node, around| node.feed(mail, around));
            }
            Act::Step(node, at, luck) => {
                world.faults -= u8::from(luck != Luck::Fine);
                world.at(node, Duration::ZERO, self, |node, around| node.step(at, luck, around));
            }
            Act::Land(at) => {
                let store = Arc::make_mut(&mut world.store);
                let write = store.pending.remove(at);
                let from = store.log.len();
                store.write(&write.ask, &write.events, self.planted);
                world.clients.committed(from, store, self);
            }
            Act::Wake(node) => world.at(node, PAUSE, self, |node, around| node.feed(Input::Tick, around)),
            Act::Expire(node) => world.at(node, DEADLINE, self, |node, around| node.feed(Input::Tick, around)),
            Act::Crash(node) => world.crash(node, self),
        }
        Some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.store.last().is_none_or(|statics| statics.epoch.0 <= self.epoch_max)
    }

    fn properties(&self) -> Vec<Property<Scene>> {
        macro_rules! kept {
            ($at:literal) => {
                Property::always(Promise::ALL[$at].1, |_, world: &World| {
                    world.clients.broken != Some(Promise::ALL[$at].0)
                })
            };
        }
        vec![
            kept!(0),
            kept!(1),
            kept!(2),
            kept!(3),
            kept!(4),
            kept!(5),
            kept!(6),
            Property::always("nobody waits for nothing", |_, world: &World| !world.is_stuck()),
            Property::sometimes("seen: everything acknowledged", |scene: &Scene, world: &World| {
                world.clients.is_everything_acked(scene)
            }),
            Property::sometimes("seen: two that both believe to own the log", |_, world: &World| {
                world.nodes.iter().all(|node| node.state.ready().is_some())
            }),
            Property::sometimes("seen: the next bucket", |_, world: &World| world.store.is_opened()),
            Property::sometimes("seen: a refusal for good", |_, world: &World| world.clients.refused),
        ]
    }
}
