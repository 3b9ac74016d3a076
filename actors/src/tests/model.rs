//! Every order of what can happen to two owners of one log, explored: the product's own [`State`] decides, the product's
//! own [`storage::fence`] speaks to partitions, and a model checker chooses who moves next and which answer is lost.
//!
//! What is checked, what is left out and what each planted mistake breaks stands in `CONVERSATION.md` ("How it is
//! checked").

mod clients;
mod mistakes;
mod node;
mod partitions;
mod scenes;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};
use tokio::time::Instant;

use self::scenes::{Planted, Scene};

/// Explores all of a scene: no promise is broken, and everything worth seeing was seen.
fn explore(scene: Scene) {
    let (name, begun) = (scene.name, Instant::now());
    let failures = HasDiscoveries::AnyFailures;
    let checker = scene.checker().finish_when(failures).spawn_bfs().join();
    report(name, checker.unique_state_count(), checker.max_depth(), begun);
    let discovered = checker.discoveries();
    for property in checker.model().properties() {
        let path = discovered.get(property.name);
        if property.name.starts_with("seen") {
            assert!(path.is_some(), "{name}: never {}", property.name);
        } else if let Some(path) = path {
            panic!("{name}: {} is broken\n{}", property.name, told(path.clone()));
        }
    }
}

/// Explores scenes until a mistake shows, and says which promise it broke.
fn caught(planted: Planted, scene: Scene) -> &'static str {
    let begun = Instant::now();
    let scene = Scene { planted: Some(planted), ..scene };
    let checker = scene.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken: BTreeSet<&'static str> =
        checker.discoveries().into_keys().filter(|name| !name.starts_with("seen")).collect();
    report(&format!("{planted:?}: {broken:?}"), checker.unique_state_count(), checker.max_depth(), begun);
    broken.into_iter().next().unwrap_or("nothing")
}

fn told(path: stateright::Path<world::World, world::Act>) -> String {
    let steps: Vec<String> = path
        .into_vec()
        .into_iter()
        .map(|(world, act)| act.map_or(format!("{world:?}"), |act| format!("{world:?}\n  {act:?}")))
        .collect();
    steps.join("\n")
}

/// One line for who watches (`--nocapture`).
#[allow(clippy::print_stdout)]
fn report(what: &str, states: usize, depth: usize, begun: Instant) {
    println!("{what}: {states} states, {depth} steps deep, {:.1} s", begun.elapsed().as_secs_f32());
}
