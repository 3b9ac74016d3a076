//! Clients that do not keep to the protocol, out of ignorance or malice: each is told what is wrong and dealt with, and
//! nobody beside them notices.

mod flood;
mod frames;
mod hello;
mod raw;

use serde_json::json;

use crate::{
    house::{House, Person, cid},
    wire::Wire,
};

/// Two people in a conversation who must not notice anything.
pub(crate) struct Bystanders {
    c: String,
    said: u64,
    one: Wire,
    other: Wire,
    pub(crate) ann: Person,
}

impl Bystanders {
    pub(crate) async fn of(house: &std::sync::Arc<House>) -> Bystanders {
        let (ann, bob) = (house.person().await, house.person().await);
        let c = ann.direct(&bob).await;
        Bystanders { c, said: 0, one: ann.live("one").await, other: bob.live("other").await, ann }
    }

    /// One exchange: nothing lost, nothing between, both sockets as before.
    pub(crate) async fn chat(&mut self) {
        for _ in 0..2 {
            self.said += 1;
            let sent = self.one.ask("send", json!({"c": self.c, "cid": cid(), "text": "still here"})).await;
            assert_eq!((sent["post_no"].as_u64(), &sent["dup"]), (Some(self.said), &json!(false)));
            let heard = loop {
                let post = self.other.push("msg").await;
                if post["c"] == self.c.as_str() {
                    break post;
                }
            };
            assert_eq!(heard["seq"], sent["seq"]);
            std::mem::swap(&mut self.one, &mut self.other);
        }
    }
}
