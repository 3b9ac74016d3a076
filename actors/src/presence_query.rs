//! How users appear, asked once: by `watch` and by REST. Only fellow members are visible; others look as if they had
//! never been there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use protocol::{
    Error, Incarnation, UserId,
    limits::STORE_DEADLINE_MS,
    peer::{Address, Done, Mail, Outcome, Requester, Slice, ToPresence},
    push::{PresenceState, PresenceStates},
    request::Presence,
};
use storage::Store;

use crate::{connections::Connections, refusals::store_failed, router::Router, tasks};

/// Those of `users` whose presence `reader` may see.
pub(crate) async fn visible(store: &Store, reader: UserId, users: &[UserId]) -> Result<Vec<UserId>, Error> {
    let mut fellows = store.directory.fellows(reader, users).await.map_err(|e| store_failed(&e))?;
    if users.contains(&reader) && !fellows.contains(&reader) {
        fellows.push(reader);
    }
    Ok(fellows)
}

/// The states of `users` as one sees them to whom only `visible` are visible.
pub(crate) async fn states(
    store: &Store, router: &Router, connections: &Arc<Connections>, me: Incarnation, users: &[UserId],
    visible: &[UserId],
) -> Result<PresenceStates, Error> {
    let never = PresenceState { state: Presence::Offline, last_seen_at: None };
    let mut presence: HashMap<UserId, PresenceState> = users.iter().map(|user| (*user, never)).collect();
    let mut slices: BTreeMap<Slice, Vec<UserId>> = BTreeMap::new();
    for user in visible {
        slices.entry(Slice::of(*user)).or_default().push(*user);
    }
    let mut asked = Vec::new();
    for (slice, users) in slices {
        let (call, answer) = connections.add_call();
        let requester = Requester { at: Address { node: me, conn: call.conn }, tag: 0 };
        if let Some(to) = router.places().channel(slice) {
            router.post(to, Mail::Presence(slice, ToPresence::Query(requester, users)));
        }
        asked.push((call, answer));
    }
    for (_call, answer) in asked {
        let answer = tasks::within(Duration::from_millis(STORE_DEADLINE_MS), answer).await;
        if let Some(Ok(Outcome::Done(Done::Presence(states)))) = answer {
            presence.extend(states);
        }
    }
    let gone: Vec<UserId> = visible
        .iter()
        .filter(|user| presence.get(user).is_some_and(|p| p.state == Presence::Offline && p.last_seen_at.is_none()))
        .copied()
        .collect();
    for (user, at) in store.sessions.last_seen(&gone).await.map_err(|e| store_failed(&e))? {
        if let Some(state) = presence.get_mut(&user) {
            state.last_seen_at = Some(at);
        }
    }
    Ok(PresenceStates { presence })
}
