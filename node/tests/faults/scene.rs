//! What every story begins and ends with: three nodes, people who talk on all of them, probes; and the verdict on all
//! that was said. `FAULTS=long` asks for everything there is to a story, not only for its short form.

use std::{
    fmt,
    time::{Duration, Instant},
};

use loadtest::random::Random;

use crate::{cluster::Cluster, probes::Probes, rig::judge, talk::Talk};

/// See the module.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) probes: Probes,
    pub(crate) talk: Talk,
    name: &'static str,
    begun: Instant,
}

impl Scene {
    /// Everybody is there and talks.
    pub(crate) async fn start(name: &'static str) -> Scene {
        Scene::of(name, Cluster::start().await).await
    }

    /// The same with these keys.
    pub(crate) async fn start_with(name: &'static str, set: &[(&str, &str)]) -> Scene {
        Scene::of(name, Cluster::start_with(set).await).await
    }

    /// The same with nodes that all started at the same moment.
    pub(crate) async fn start_at_once(name: &'static str) -> Scene {
        Scene::of(name, Cluster::start_at_once().await).await
    }

    async fn of(name: &'static str, mut cluster: Cluster) -> Scene {
        let begun = Instant::now();
        cluster.whole(begun).await;
        let probes = Probes::start(&cluster).await;
        let talk = Talk::start(&cluster.rig, &mut Random::unseeded()).await;
        let scene = Scene { cluster, probes, talk, name, begun };
        scene.tell("everybody is there");
        scene.talk.acks(50).await;
        scene
    }

    /// A line of what happened, and when.
    pub(crate) fn tell(&self, what: impl fmt::Display) {
        println!("{:>12} {:>6.1} s  {what}", self.name, self.begun.elapsed().as_secs_f64());
    }

    /// Writes in every group through this node, until all are accepted; how long after `since` the last one was.
    pub(crate) async fn write(&mut self, through: usize, since: Instant, what: &str) -> Duration {
        let took = self.probes.write(through).await.map(|at| at.saturating_duration_since(since));
        self.tell(format_args!("{what}: writes through n{through} accepted after {:.1?} to {:.1?}", took[0], took[1]));
        took[1]
    }

    /// All nodes are one again, and everybody goes on.
    pub(crate) async fn heals(&mut self, since: Instant) {
        let whole = self.cluster.whole(since).await;
        self.tell(format_args!("all up and linked {whole:.1?} after the fault"));
        self.talk.acks(30).await;
    }

    /// Everybody finishes; the verdict.
    pub(crate) async fn finish(mut self) {
        self.talk.hush().await;
        self.tell("everybody has finished");
        let rig = &mut self.cluster.rig;
        let logs = rig.settle(&self.probes.parts()).await;
        let mut history = self.talk.read_back(rig).await;
        history.logs.extend(logs);
        judge(self.name, &history);
        println!("{:>12} {:>6.1} s  0 violations", self.name, self.begun.elapsed().as_secs_f64());
    }
}

/// Whether there is time for everything.
pub(crate) fn is_long() -> bool {
    match std::env::var("FAULTS").as_deref() {
        Ok("long") => true,
        Err(_) | Ok("short") => false,
        Ok(other) => panic!("FAULTS={other}: it is `short`, `long` or not set"),
    }
}
