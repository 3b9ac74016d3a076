//! P10: from `kill -9` of an owner to writes in its conversations, through a node that lives. People talk on all nodes
//! meanwhile, and come back wherever they can; the checker decides at the end what was lost or doubled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use loadtest::{Rest, checker};
use protocol::{ClientId, Post, Seq, request::Send};

use super::{
    super::{
        CommandError, crowd,
        figures::{Latencies, Percentiles},
        rows::{Row, row},
        talk::{Crew, Group, SEND_WITHIN, Seat, Talk},
    },
    BenchCluster, Figures,
    house::House,
};

const NODES: usize = 3;
/// Conversations that are written to after each kill, all at once: with 15, a node owns none of them once in 500 times.
const PROBED: usize = 15;
/// People who talk meanwhile, in pairs, and how much.
const PEOPLE: usize = 12;
const SENDS_PER_S: f64 = 30.0;
/// Bytes of a text.
const SIZE: usize = 100;
/// The longest wait of a client that lost its node: nodes are killed many times a minute.
const BACKOFF_MAX: Duration = Duration::from_millis(250);

impl BenchCluster {
    pub(super) async fn failover(&self) -> Result<Figures, CommandError> {
        let mut house = self.house(NODES)?;
        let rest = house.rest()?;
        let (crew, probed, pairs) = people(&house, &rest).await?;
        let talk = Talk::new(crew.clone(), pairs.clone(), SIZE);
        let talking = tokio::spawn({
            let talk = talk.clone();
            async move { talk.open_loop(SENDS_PER_S, f64::INFINITY).await }
        });
        let (accepted, ready) = (Latencies::new(), Latencies::new());
        for round in 0..self.kills {
            let (victim, other) = (round % NODES, (round + 1) % NODES);
            // who is to be killed has claimed what is placed on it
            write(&crew, &probed, other, &format!("before-{round}")).await?;
            let killed = Instant::now();
            tokio::task::block_in_place(|| house.nodes[victim].kill());
            write(&crew, &probed, other, &format!("after-{round}")).await?;
            accepted.record(killed.elapsed());
            let node = &mut house.nodes[victim];
            tokio::task::block_in_place(|| node.restart()).map_err(CommandError::Start)?;
            ready.record(node.ready_after);
        }
        talk.hush();
        talking.await.map_err(|error| CommandError::Stalled(error.to_string()))?;
        let groups = [probed, pairs].concat();
        let unsettled = crew.settle(&rest, &groups).await?;
        let verdict = checker::check(&crew.history(&rest, &groups).await?);
        let mut broken: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
        broken.extend((unsettled > 0).then(|| format!("{unsettled} devices never got everything")));
        broken.extend(talk.errors().iter().map(|(code, n)| format!("{n} sends were answered {code}")));
        let lost = verdict.violations.iter().filter(|violation| violation.promise == checker::Promise::G1).count();
        let doubled = verdict.violations.iter().filter(|violation| violation.promise == checker::Promise::G5).count();
        let mut rows = times("kill -9 of an owner → writes in all its conversations", &accepted, "≤ 2; at most 5");
        rows.extend(times("start of that node → conversations placed on it", &ready, ""));
        let acked = verdict.counts.acked;
        rows.push(row("P10", format!("lost, of {acked} acknowledged, {} kills", self.kills), None, lost as f64, "0"));
        rows.push(row("P10", "stored twice", None, doubled as f64, "0"));
        rows.push(row("P10", "promises broken, by the checker", None, broken.len() as f64, "0"));
        Ok(Figures { rows, broken })
    }
}

/// The first has a device on each node, which stays with it, and the conversations that are probed; the others talk in
/// pairs, each on one device that takes the next node when it loses its own.
async fn people(house: &House, rest: &Rest) -> Result<(Arc<Crew>, Vec<Group>, Vec<Group>), CommandError> {
    let targets = house.targets()?;
    let users = crowd::users(rest, 1 + PEOPLE).await?;
    let (mut probed, mut pairs) = (Vec::new(), Vec::new());
    for _ in 0..PROBED {
        let c = crowd::group(rest, &users[0], &[users[1].user.id]).await?;
        probed.push(Group { c, members: (0..=NODES).collect() });
    }
    for place in 0..PEOPLE {
        let (a, b) = (place, (place + 1) % PEOPLE);
        let c = crowd::group(rest, &users[1 + a], &[users[1 + b].user.id]).await?;
        pairs.push(Group { c, members: vec![NODES + a, NODES + b] });
    }
    let mut seats: Vec<Seat> = (0..NODES)
        .map(|n| (users[0].clone(), n, vec![targets[n].clone()]))
        .map(|(user, number, targets)| Seat { user, number, targets, backoff_max: BACKOFF_MAX })
        .collect();
    for (place, user) in users.into_iter().skip(1).enumerate() {
        let mut targets = targets.clone();
        targets.rotate_left(place % NODES);
        seats.push(Seat { user, number: 0, targets, backoff_max: BACKOFF_MAX });
    }
    Ok((Arc::new(Crew::gather(rest, seats, true).await?), probed, pairs))
}

/// Writes in each of them through this node; returns when the last is accepted.
async fn write(crew: &Crew, groups: &[Group], through: usize, cid: &str) -> Result<(), CommandError> {
    let cid = ClientId::try_from(cid.to_owned()).expect("short and printable");
    let sends = groups.iter().map(|group| {
        let post = Post { text: Some("are you there?".into()), ..Post::default() };
        let device = &crew.devices[through];
        let base = Some(Seq(device.position(group.c)));
        let send = Send { c: group.c, cid: cid.clone(), base, post };
        async move { device.send(&send, SEND_WITHIN).await }
    });
    for sent in join_all(sends).await {
        sent?;
    }
    Ok(())
}

fn times(what: &str, took: &Latencies, wanted: &'static str) -> Vec<Row> {
    let Percentiles { p50, p99, max, .. } = took.percentiles();
    let line = |name: &str, ms: f64, wanted| row("P10", format!("{what}: {name}, s"), None, ms / 1000.0, wanted);
    vec![line("p50", p50, ""), line("p99", p99, wanted), line("max", max, "")]
}
