//! What is registered and watched elsewhere, and here by others: kept in step with each peer, and made again where it may
//! have been lost (`cluster::told`).

use protocol::{
    ConnId, ConversationId, Incarnation,
    peer::{Address, Digest, Mail, Parcel, Slice, ToNode, ToPresence},
};

use super::Router;
use crate::{
    cluster::{
        tally::Tally,
        told::{Compared, Told},
    },
    conversation::state as conversation,
    presence,
    session::state as session,
};

impl Router {
    /// Tells every member, this node included, what it should have of this one: twice a second.
    pub(crate) fn compare_all(&self) {
        self.receive_early();
        let places = self.places();
        if places.is_alone() {
            return;
        }
        for member in &places.members {
            let mut told = self.told();
            let digest = told.digest(*member);
            if *member == self.me {
                self.compare(&mut told, self.me, places.version(), digest);
            } else if let Some(abroad) = self.abroad.get() {
                let mail = Mail::Node(ToNode::Digest(digest));
                abroad.send(*member, Parcel { view: places.version(), forwarded: false, mail });
            }
        }
        self.compared(self.me);
    }

    /// A socket is gone from the table: its channel is told, if it was registered.
    pub(crate) fn unregister(&self, user: protocol::UserId, conn: ConnId) {
        let mut told = self.told();
        if let Some(to) = told.unregistered(conn) {
            let at = Address { node: self.me, conn };
            let mail = Mail::Presence(Slice::of(user), ToPresence::Unregister(user, at));
            self.hand_over(to, Parcel { view: self.places().version(), forwarded: false, mail });
        }
    }

    /// A conversation has crashed: its successor watches anew, and if nobody comes, nobody watches.
    pub(crate) fn orphaned(&self, c: ConversationId) {
        let watches = self.told().orphaned(c);
        for (at, slice, watch) in watches {
            self.post(at, Mail::Presence(slice, ToPresence::Unwatch(c, watch)));
        }
    }

    /// A channel has crashed: nobody knows whom it knew.
    pub(crate) fn crashed(&self) {
        self.told().crashed();
    }

    /// A channel begins again with nothing: every node's sockets register and conversations watch again.
    pub(crate) fn refill(&self, slice: Slice) {
        for member in self.places().members.clone() {
            self.post(member, Mail::Node(ToNode::Refill(slice)));
        }
    }

    /// A channel has said what it has of a node.
    pub(crate) fn counted(&self, from: Incarnation, round: u64, tally: Tally) {
        self.told().counted(from, round, tally);
        self.compared(from);
    }

    /// True if every member says that none of its sockets waits to be registered here again.
    pub(crate) fn is_complete(&self) -> bool {
        self.told().is_complete()
    }

    /// A conversation wants to hear when that node is complete.
    pub(crate) fn ask_complete(&self, at: Incarnation, c: ConversationId) {
        self.told().ask_complete(at, c);
    }

    /// The link to a peer was reset: what was told through it may not have arrived.
    pub(crate) fn lost(&self, peer: Incarnation) {
        self.early().forget(peer);
        self.forget(peer);
        self.forgotten(peer, None);
        self.news.send_modify(|news| news.losses += 1);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for conn in mailboxes.sessions() {
            mailboxes.session(conn, session::Input::Lost(peer));
        }
    }

    /// A link to a peer stands, be it the first: what could not be registered and watched there without one is now.
    pub(crate) fn linked(&self, peer: Incarnation) {
        self.forgotten(peer, None);
    }

    /// A node has forgotten what this one had there.
    pub(super) fn forgotten(&self, by: Incarnation, which: Option<Slice>) {
        self.told().forgotten(by, which);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for conn in mailboxes.sessions() {
            mailboxes.session(conn, session::Input::Forgotten(by, which));
        }
        for c in mailboxes.conversations() {
            mailboxes.inform(c, conversation::Input::Forgotten(by, which));
        }
    }

    /// What a node had here counts no more.
    pub(super) fn forget(&self, node: Incarnation) {
        self.told().forget(node);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for slice in mailboxes.channels() {
            mailboxes.inform_channel(slice, presence::Input::Forget(node));
        }
    }

    /// Asks all channels what they have of a node, behind all that it told them before.
    pub(super) fn compare(&self, told: &mut Told, from: Incarnation, view: u64, claim: Digest) {
        let Some(mailboxes) = self.mailboxes.get() else { return };
        if claim.complete {
            for c in told.completed(from, view) {
                mailboxes.inform(c, conversation::Input::Complete(from));
            }
        }
        let channels = mailboxes.channels();
        let round = told.compare(from, view, claim, channels.len());
        for slice in channels {
            if !mailboxes.inform_channel(slice, presence::Input::Count { from, round }) {
                told.counted(from, round, Tally::default());
            }
        }
    }

    pub(super) fn compared(&self, from: Incarnation) {
        if self.told().compared(from) == Compared::Rebuild {
            metrics::counter!("starling_rebuilds_total").increment(1);
            tracing::warn!(peer = ?from, "its registrations and watches here differ from what it told; again from nothing");
            self.forget(from);
            self.post(from, Mail::Node(ToNode::Rebuild));
        }
    }
}
