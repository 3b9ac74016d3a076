//! Two people on sockets of two nodes who never post: they type, and come and go. None of that needs a store.

use std::time::{Duration, Instant};

use loadtest::{
    Client,
    client::{Journal, Push},
    crowd,
};
use protocol::{
    ConversationId, Presence, UserId,
    request::{Hello, Pres, Sync, Target, Typ, Verb, Watch},
    rest::SignedIn,
};
use serde::de::IgnoredAny;

use crate::{cluster::Cluster, rig::PATIENCE};

/// What is volatile may be dropped, and is said again.
const AGAIN: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Typists {
    c: ConversationId,
    ann_is: UserId,
    ann: Client,
    bob: Client,
}

impl Typists {
    /// Ann at node `a`, Bob at node `b`.
    pub(crate) async fn start(cluster: &Cluster, a: usize, b: usize) -> Typists {
        let people = cluster.rig.people(2).await;
        let c = cluster.rig.group(&people).await;
        let ann = socket(cluster, &people[0], a, c).await;
        let bob = socket(cluster, &people[1], b, c).await;
        let ann_is = people[0].user.id;
        bob.request::<IgnoredAny>(Verb::Watch(Watch { users: vec![ann_is] })).await.unwrap();
        Typists { c, ann_is, ann, bob }
    }

    /// Ann types and turns to something else, and Bob hears of both; how long that took.
    pub(crate) async fn hear_each_other(&mut self) -> Duration {
        let (c, ann_is, begun) = (self.c, self.ann_is, Instant::now());
        let typed = move |push| matches!(push, Push::Typing(typing) if typing.user == ann_is).then_some(());
        self.until_heard([true, false].map(|on| Verb::Typ(Typ { c, on })), typed).await;
        let turned =
            move |push| matches!(push, Push::Presence(said) if said.presence.contains_key(&ann_is)).then_some(());
        self.until_heard([Presence::Away, Presence::Online].map(|state| Verb::Pres(Pres { state })), turned).await;
        begun.elapsed()
    }

    async fn until_heard(&mut self, say: [Verb; 2], heard: impl Fn(Push) -> Option<()>) {
        let begun = Instant::now();
        for verb in say.iter().cycle() {
            // what it is answered matters less than what the other hears
            let _ = self.ann.request::<IgnoredAny>(verb.clone()).await;
            if tokio::time::timeout(AGAIN, self.bob.expect(PATIENCE, &heard)).await.is_ok_and(|heard| heard.is_ok()) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody hears {verb:?}");
        }
    }
}

async fn socket(cluster: &Cluster, user: &SignedIn, at: usize, c: ConversationId) -> Client {
    let token = Some(user.tokens.access_token.clone());
    let hello = Hello { token, device: Some(crowd::device(0)), ..Hello::default() };
    let journal = Journal::new(cluster.rig.recorder(user.user.id), 0);
    let client = Client::connect(&cluster.target(at), hello, Some(journal)).await.unwrap();
    client.request::<IgnoredAny>(Verb::Sync(Sync::default())).await.unwrap();
    client.request::<IgnoredAny>(Verb::Open(Target { c })).await.unwrap();
    client
}
