//! What was wrong: everybody is given time to learn everything although nobody posts again; then somebody does, and is
//! heard; then the project's checker decides about all that was seen.

use std::time::Duration;

use futures_util::FutureExt;
use loadtest::{
    checker::check,
    history::{Entry, History, Log, Record, What},
    timeline::Timeline,
};
use protocol::{ConversationId, Presence, Seq, UserId};
use storage::log::{Lane, Range};

use super::world::World;

/// After the last fault everybody knows everything within this time.
const KNOWN: Duration = Duration::from_secs(45);
/// And what is posted then, within this.
const HEARD: Duration = Duration::from_secs(10);
/// Not as often as anything else happens, or it would always be looked at in the same state.
const LOOK: Duration = Duration::from_millis(470);

/// Complains of all that is wrong.
pub(super) fn of(world: &mut World) {
    let since = world.scene.works.now();
    world.run(world.scene.whole_from.saturating_duration_since(since));
    let lacking = within(world, KNOWN);
    let healed = world.scene.works.now().saturating_duration_since(world.scene.whole_from);
    world.scene.tell(format!("all is well {healed:?} after the last fault"));
    complain(world, lacking);
    world.spare();
    for c in world.scene.conversations.clone() {
        let device = world.devices.iter_mut().find(|device| device.live && device.places.contains_key(&c));
        if let Some(device) = device {
            device.post(&mut world.scene, c);
        }
    }
    world.run(LOOK);
    let lacking = within(world, HEARD);
    complain(world, lacking);
    settle(world);
    let history = History { logs: logs(world), records: std::mem::take(&mut world.scene.history) };
    let verdict = check(&history);
    complain(world, verdict.violations.iter().map(ToString::to_string).collect());
}

fn complain(world: &mut World, what: Vec<String>) {
    what.into_iter().for_each(|what| world.scene.complain(what));
}

/// What is still wrong when the time is over.
pub(super) fn within(world: &mut World, time: Duration) -> Vec<String> {
    let end = world.scene.works.now() + time;
    loop {
        let lacking = lacking(world);
        if lacking.is_empty() || world.scene.works.now() > end {
            return lacking;
        }
        world.run(LOOK);
    }
}

fn lacking(world: &World) -> Vec<String> {
    let mut lacking = Vec::new();
    if !world.scene.is_whole() {
        lacking.push("the view is not whole".into());
        return lacking;
    }
    let logs = logs(world);
    for device in world.devices.iter().filter(|device| !device.away) {
        let number = device.number;
        if !device.live {
            lacking.push(format!("device {number} is not connected"));
            continue;
        }
        for log in &logs {
            let has = device.places.get(&log.c).map(Timeline::position);
            if !is_member(log, device.caller.user) {
                if has.is_some() {
                    lacking.push(format!("device {number} does not know that it is removed from {}", log.c));
                }
            } else if has.unwrap_or(0) < log.head {
                let (has, head, c) = (has.unwrap_or(0), log.head, log.c);
                lacking.push(format!("device {number} knows {has} of {head} in {c} and nobody tells it"));
            }
        }
        // what is volatile is not kept for who reads too slowly
        for user in world.scene.users.iter().filter(|_| !world.scene.slow_readers) {
            let there = world.devices.iter().any(|other| other.caller.user == *user && other.live);
            let wanted = if there { Presence::Online } else { Presence::Offline };
            let seen = device.seen.get(user).copied().unwrap_or(Presence::Offline);
            if seen != wanted {
                lacking.push(format!("G12: device {number} sees {user} {seen:?}, and that is {wanted:?}"));
            }
        }
    }
    for node in world.scene.living().filter(|node| !node.is_drained()) {
        lacking.push(format!("G15: n{} still has something on its way", node.n));
    }
    lacking
}

fn is_member(log: &Log, user: UserId) -> bool {
    log.entries.iter().fold(false, |is, entry| (is || entry.joined.contains(&user)) && entry.gone != Some(user))
}

fn logs(world: &World) -> Vec<Log> {
    world.scene.conversations.iter().map(|c| read(world, *c)).collect()
}

fn read(world: &World, c: ConversationId) -> Log {
    let all = Range { after: Seq(0), before: None, lane: Lane::Both, limit: usize::MAX, newest: false };
    let events = world.scene.store().log.read(c, all).now_or_never().unwrap().unwrap();
    let entries: Vec<Entry> = events.iter().filter_map(|event| event.view(c)).map(|view| Entry::of(&view)).collect();
    Log { c, reader: "the store".into(), head: events.last().map_or(0, |event| event.seq.0), entries }
}

/// Writes down, for the checker, that everybody was given the time.
fn settle(world: &mut World) {
    let (logs, at_us) = (logs(world), world.scene.now_us());
    for device in world.devices.iter().filter(|device| device.live) {
        for log in logs.iter().filter(|log| is_member(log, device.caller.user)) {
            let what = What::Settled { c: log.c, head: log.head };
            let (number, user) = (device.number as u32, device.caller.user);
            world.scene.note(Record { at_us, device: number, user, socket: device.sockets, what });
        }
    }
}
