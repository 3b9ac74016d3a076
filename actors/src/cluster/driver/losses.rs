//! What an operator hears of links that come and go: that one is lost, once, however often it stands for a moment and falls
//! again while the peer is away; and that it is found again, by whichever run of the peer. Pure.

use std::collections::HashSet;

use protocol::NodeId;

/// Peers whose loss was said. As many as there are names of nodes.
#[derive(Debug, Default)]
pub(super) struct Losses(HashSet<NodeId>);

impl Losses {
    /// A link to it is no more; true if that is news.
    pub(super) fn lost(&mut self, peer: &NodeId) -> bool {
        self.0.insert(peer.clone())
    }

    /// It hears this node, and is heard; true if that is news.
    pub(super) fn found(&mut self, peer: &NodeId) -> bool {
        self.0.remove(peer)
    }

    /// True if nobody is missed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_said_once_until_the_peer_is_found_again() {
        let [one, two] = ["n1", "n2"].map(|name| NodeId::try_from(name.to_owned()).unwrap());
        let mut losses = Losses::default();
        assert!(!losses.found(&one), "nobody missed it");
        assert!(losses.lost(&one) && !losses.lost(&one) && !losses.lost(&one));
        assert!(losses.lost(&two), "another peer is another loss");
        assert!(losses.found(&one) && !losses.found(&one));
        assert!(losses.lost(&one) && !losses.is_empty());
    }
}
