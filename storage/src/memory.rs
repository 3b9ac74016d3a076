//! A store without a disk: the model that tests hold the others against, and the `memory` back end for trying things
//! out. It behaves as a distributed store does: an append writes the log only, and what follows from it is written by
//! [`crate::log::Log::follow`]. With [`Memory::with_faults`] it also fails as one does.

mod accounts;
mod cluster;
mod directory;
pub mod faults;
mod inventory;
mod log;
mod tokens;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use self::faults::{Fault, Gate, Operation};
use crate::{
    Error, Store,
    gcra::Buckets,
    health::{Health, Snapshot},
    meters::Meters,
};

/// Everything it remembers.
#[derive(Default)]
struct Model {
    logs: log::Logs,
    accounts: accounts::Records,
    tokens: tokens::Secrets,
    buckets: Buckets,
    nodes: cluster::Nodes,
}

/// What several nodes remember together: see [`Memory::shared`].
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Model>>);

enum Faults {
    None,
    Plan(Mutex<Box<dyn FnMut(Operation) -> Option<Fault> + Send>>),
    Gate(Arc<dyn Gate>),
}

/// All faces of one model.
pub struct Memory {
    model: Arc<Mutex<Model>>,
    faults: Faults,
    writes: AtomicU64,
    meters: Meters,
}

impl Memory {
    /// A store that never fails.
    pub fn store() -> Store {
        Memory::faces(&Shared::default(), Faults::None)
    }

    /// A store that asks `faults`, before each call, how it should go wrong; `None`: not at all. Decides nothing by
    /// itself, so a script or a seeded generator ([`faults::seeded`]) repeats exactly. What is applied later is so on
    /// tokio's clock.
    pub fn with_faults(faults: impl FnMut(Operation) -> Option<Fault> + Send + 'static) -> Store {
        Memory::faces(&Shared::default(), Faults::Plan(Mutex::new(Box::new(faults))))
    }

    /// One node's way to a store that others use too; without a gate it never fails and never waits.
    pub fn shared(with: &Shared, gate: Option<Arc<dyn Gate>>) -> Store {
        Memory::faces(with, gate.map_or(Faults::None, Faults::Gate))
    }

    fn faces(with: &Shared, faults: Faults) -> Store {
        let (model, writes) = (with.0.clone(), AtomicU64::new(0));
        let memory = Arc::new(Memory { model, faults, writes, meters: Meters::new("memory") });
        Store {
            log: memory.clone(),
            directory: memory.clone(),
            accounts: memory.clone(),
            sessions: memory.clone(),
            tokens: memory.clone(),
            health: memory.clone(),
            token_health: memory.clone(),
            inventory: memory.clone(),
            families: memory.clone(),
            cluster: Some(memory),
        }
    }

    /// Does what is asked, or what the plan says instead.
    async fn call<T, F>(&self, operation: Operation, act: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Model) -> Result<T, Error> + Send + 'static,
    {
        if operation.writes() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        let fault = match &self.faults {
            Faults::None => None,
            Faults::Plan(plan) => plan.lock().unwrap_or_else(PoisonError::into_inner)(operation),
            Faults::Gate(gate) => gate.come(operation).await,
        };
        let outcome = match fault {
            None => act(&mut lock(&self.model)),
            Some(fault) => self.go_wrong(operation, fault, act).await,
        };
        if let Faults::Gate(gate) = &self.faults {
            gate.leave(operation).await;
        }
        self.meters.count(outcome)
    }

    async fn go_wrong<T, F>(&self, operation: Operation, fault: Fault, act: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Model) -> Result<T, Error> + Send + 'static,
    {
        let unknown = || Error::Unknown(format!("{operation:?} by plan"));
        match fault {
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                act(&mut lock(&self.model))
            }
            // What does not write has nothing to be unknown about.
            Fault::Refuse => Err(Error::Refused(format!("{operation:?} by plan"))),
            _ if !operation.writes() => Err(Error::Refused(format!("{operation:?} by plan"))),
            Fault::UnknownNotApplied => Err(unknown()),
            Fault::UnknownApplied => act(&mut lock(&self.model)).and_then(|_| Err(unknown())),
            Fault::UnknownAppliesLater(time) => {
                let model = self.model.clone();
                let act = move || drop(act(&mut lock(&model)));
                if let Faults::Gate(gate) = &self.faults {
                    gate.later(time, Box::new(act));
                } else {
                    tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        act();
                    });
                }
                Err(unknown())
            }
        }
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Health for Memory {
    async fn ping(&self) -> Result<(), Error> {
        self.call(Operation::Ping, |_| Ok(())).await
    }

    fn snapshot(&self) -> Snapshot {
        let writes = self.writes.load(Ordering::Relaxed);
        Snapshot { writes, commits: writes, queue_full: 0, waiting: 0 }
    }
}
