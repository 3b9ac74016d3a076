//! Mail of peers that go by a later view than this node: what registers, watches, asks a presence channel or compares, and
//! what clients ask of a conversation, waits until this node goes by that view too. Taken as it comes, it would be for a
//! channel that is not here yet, and lost until it is said again, if it is; or for a conversation that is not here yet, and
//! refused. Nothing waits for long: a store that is away must not keep mail back. Pure.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    Incarnation,
    peer::{Mail, Parcel, ToConversation, ToNode},
};
use tokio::time::Instant;

use crate::maps::HashMap;

/// The row is read within a tenth of this; after it, mail is taken as it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of one peer: more than all watches of a node that is taken over by this one. What has no room is taken as it is.
const WAITING_MAX: usize = 16_384;
/// Of those, what clients ask: as much as one conversation lets wait. It may be large.
const REQUESTS_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Early {
    by_peer: HashMap<Incarnation, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<(Instant, Parcel)>,
    n_requests: usize,
}

impl Early {
    /// Keeps what is early for a node that goes by this version; gives back what is not. In order per peer: its views only
    /// grow, so behind what waits there is nothing that need not.
    pub(crate) fn keep(&mut self, from: Incarnation, parcel: Parcel, version: u64, now: Instant) -> Option<Parcel> {
        let asks = is_request(&parcel);
        let placed = asks || matches!(parcel.mail, Mail::Presence(..) | Mail::Node(ToNode::Digest(_)));
        if !placed || parcel.view <= version {
            return Some(parcel);
        }
        let waiting = self.by_peer.entry(from).or_default();
        if waiting.parcels.len() >= WAITING_MAX || asks && waiting.n_requests >= REQUESTS_MAX {
            return Some(parcel);
        }
        waiting.n_requests += usize::from(asks);
        waiting.parcels.push_back((now, parcel));
        None
    }

    /// What need not wait any longer, in order.
    pub(crate) fn due(&mut self, version: u64, now: Instant) -> Vec<(Incarnation, Parcel)> {
        let mut due = Vec::new();
        for (from, Waiting { parcels, n_requests }) in &mut self.by_peer {
            let is_due = |(since, parcel): &(Instant, Parcel)| parcel.view <= version || now >= *since + PATIENCE;
            let n_due = parcels.iter().take_while(|one| is_due(one)).count();
            due.extend(parcels.drain(..n_due).map(|(_, parcel)| {
                *n_requests -= usize::from(is_request(&parcel));
                (*from, parcel)
            }));
        }
        self.by_peer.retain(|_, waiting| !waiting.parcels.is_empty());
        due
    }

    /// The link to this peer is no more: it says everything again.
    pub(crate) fn forget(&mut self, peer: Incarnation) {
        self.by_peer.remove(&peer);
    }
}

fn is_request(parcel: &Parcel) -> bool {
    matches!(parcel.mail, Mail::Conversation(_, ToConversation::Submit(_) | ToConversation::Mark(_)))
}

#[cfg(test)]
mod tests {
    use protocol::{
        ConversationId, Seq, UserId,
        peer::{Digest, MarkRequest, Slice, ToPresence},
    };

    use super::*;
    use crate::cluster::places::views::node;

    fn mail(n: u8) -> Mail {
        Mail::Presence(Slice(u16::from(n)), ToPresence::Query(requester(), vec![UserId([n; 16])]))
    }

    fn requester() -> protocol::peer::Requester {
        let at = protocol::peer::Address { node: node(2), conn: protocol::ConnId(1) };
        protocol::peer::Requester { at, tag: 0 }
    }

    fn parcel(view: u64, mail: Mail) -> Parcel {
        Parcel { view, forwarded: false, mail }
    }

    fn digest() -> Mail {
        Mail::Node(ToNode::Digest(Digest { count: 0, sum: 0, registered: true, complete: true }))
    }

    #[test]
    fn what_goes_by_a_later_view_waits_for_it_in_order_and_the_rest_does_not() {
        let (mut early, now) = (Early::default(), Instant::now());
        assert!(early.keep(node(2), parcel(7, mail(1)), 7, now).is_some());
        for (view, mail) in [(8, mail(1)), (8, digest()), (9, mail(3))] {
            assert!(early.keep(node(2), parcel(view, mail), 7, now).is_none());
        }
        assert!(early.keep(node(3), parcel(7, digest()), 7, now).is_some(), "another peer is as far as this node");
        assert!(
            early.keep(node(2), parcel(9, Mail::Node(ToNode::Rebuild)), 7, now).is_some(),
            "it is about no place here"
        );
        assert_eq!(early.due(7, now), []);
        assert_eq!(early.due(8, now), [(node(2), parcel(8, mail(1))), (node(2), parcel(8, digest()))]);
        assert_eq!(early.due(9, now), [(node(2), parcel(9, mail(3)))]);
        assert!(early.by_peer.is_empty());
    }

    #[test]
    fn a_view_that_cannot_be_read_keeps_mail_back_for_a_second_and_a_lost_link_drops_it() {
        let (mut early, now) = (Early::default(), Instant::now());
        assert!(early.keep(node(2), parcel(8, mail(1)), 7, now).is_none());
        assert!(early.keep(node(3), parcel(8, mail(2)), 7, now).is_none());
        early.forget(node(3));
        assert_eq!(early.due(7, now + PATIENCE - Duration::from_millis(1)), []);
        assert_eq!(early.due(7, now + PATIENCE), [(node(2), parcel(8, mail(1)))]);
    }

    #[test]
    fn g15_no_more_waits_of_one_peer_than_its_bound() {
        let (mut early, now) = (Early::default(), Instant::now());
        let kept = |early: &mut Early, from| early.keep(node(from), parcel(8, mail(1)), 7, now).is_none();
        assert!((0..WAITING_MAX).all(|_| kept(&mut early, 2)));
        assert!(!kept(&mut early, 2) && kept(&mut early, 3));
    }

    #[test]
    fn g15_of_what_clients_ask_less_waits_than_of_the_rest() {
        let (mut early, now) = (Early::default(), Instant::now());
        let asked = || {
            let mark = MarkRequest { requester: None, by: UserId([1; 16]), read: true, seq: Seq(1) };
            parcel(8, Mail::Conversation(ConversationId([7; 16]), ToConversation::Mark(mark)))
        };
        assert!((0..REQUESTS_MAX).all(|_| early.keep(node(2), asked(), 7, now).is_none()));
        assert!(early.keep(node(2), asked(), 7, now).is_some(), "it is answered that it moved");
        assert!(early.keep(node(2), parcel(8, mail(1)), 7, now).is_none());
        assert_eq!(early.due(8, now).len(), REQUESTS_MAX + 1);
        assert!(early.keep(node(2), asked(), 7, now).is_none(), "there is room again");
    }
}
