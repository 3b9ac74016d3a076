//! Mail of peers that go by a later view than this node: what registers, watches, asks a presence channel or compares waits
//! until this node goes by that view too. Taken as it comes, it would be for a channel that is not here yet, and lost until
//! it is said again, if it is. Nothing waits for long: a store that is away must not keep mail back. Pure.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    Incarnation,
    peer::{Mail, Parcel, ToNode},
};
use tokio::time::Instant;

use crate::maps::HashMap;

/// The row is read within a tenth of this; after it, mail is taken as it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of one peer: more than all watches of a node that is taken over by this one. What has no room is taken as it is.
const WAITING_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Early {
    by_peer: HashMap<Incarnation, VecDeque<(Instant, Parcel)>>,
}

impl Early {
    /// Keeps what is early for a node that goes by this version; gives back what is not. In order per peer: its views only
    /// grow, so behind what waits there is nothing that need not.
    pub(crate) fn keep(&mut self, from: Incarnation, parcel: Parcel, version: u64, now: Instant) -> Option<Parcel> {
        let placed = matches!(parcel.mail, Mail::Presence(..) | Mail::Node(ToNode::Digest(_)));
        if !placed || parcel.view <= version {
            return Some(parcel);
        }
        let waiting = self.by_peer.entry(from).or_default();
        if waiting.len() >= WAITING_MAX {
            return Some(parcel);
        }
        waiting.push_back((now, parcel));
        None
    }

    /// What need not wait any longer, in order.
    pub(crate) fn due(&mut self, version: u64, now: Instant) -> Vec<(Incarnation, Parcel)> {
        let mut due = Vec::new();
        for (from, waiting) in &mut self.by_peer {
            let is_due = |(since, parcel): &(Instant, Parcel)| parcel.view <= version || now >= *since + PATIENCE;
            let n_due = waiting.iter().take_while(|one| is_due(one)).count();
            due.extend(waiting.drain(..n_due).map(|(_, parcel)| (*from, parcel)));
        }
        self.by_peer.retain(|_, waiting| !waiting.is_empty());
        due
    }

    /// The link to this peer is no more: it says everything again.
    pub(crate) fn forget(&mut self, peer: Incarnation) {
        self.by_peer.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        UserId,
        peer::{Digest, Slice, ToPresence},
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
}
