//! What becomes of a piece of mail for which a peer's queue has no room, and what of one that a broken link may have lost.

use protocol::{
    ConnId, ConversationId,
    peer::{Address, Mail, Requester, Slice, ToConnections, ToConversation, ToPresence, WatchId},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// What a client wants: refused, or handed back, to who asks.
    Request(Option<Requester>),
    /// What a conversation tells devices: becomes its head, of which who is behind fetches.
    Told,
    /// What a channel tells a conversation of devices: the watch is dropped at both ends, and made again.
    Watch(ConversationId, Slice, WatchId),
    /// How far users have read: only the latest counts.
    Receipts,
    /// Of no use later: the oldest goes first.
    Volatile(&'static str),
    /// A state of which only the latest counts; it takes the place of what waits under the same key.
    Latest(Key),
    /// All else: as much as its causes, which have bounds of their own. A broken link makes them say it again.
    Kept,
}

/// Names a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// How the user of a socket appears.
    Appearance(Address),
    /// Whom a socket watches in a slice.
    Watched(Address, Slice),
}

/// The class of a piece of mail.
pub(super) fn of(mail: &Mail) -> Class {
    match mail {
        Mail::Conversation(c, mail) => match mail {
            ToConversation::Submit(submission) => Class::Request(submission.requester),
            ToConversation::Mark(mark) => Class::Request(mark.requester),
            ToConversation::Typing { .. } => Class::Volatile("typing"),
            ToConversation::Watched { slice, watch, .. } => Class::Watch(*c, *slice, *watch),
            ToConversation::Attached { watch, user, .. } | ToConversation::Detached { watch, user, .. } => {
                Class::Watch(*c, Slice::of(*user), *watch)
            }
            ToConversation::Unwatched { .. } | ToConversation::Dropped { .. } => Class::Kept,
        },
        Mail::Presence(slice, mail) => match mail {
            ToPresence::Query(requester, _) => Class::Request(Some(*requester)),
            ToPresence::Appear(_, at, _) => Class::Latest(Key::Appearance(*at)),
            ToPresence::WatchUsers { at, .. } => Class::Latest(Key::Watched(*at, *slice)),
            ToPresence::Register(..)
            | ToPresence::Unregister(..)
            | ToPresence::WatchMembers { .. }
            | ToPresence::Unwatch(..) => Class::Kept,
        },
        Mail::Connections(mail) => match mail {
            ToConnections::Event(_) | ToConnections::Head { .. } => Class::Told,
            ToConnections::Receipts { .. } => Class::Receipts,
            ToConnections::Typing { .. } => Class::Volatile("typing"),
            ToConnections::Presence { .. } => Class::Volatile("presence"),
            ToConnections::List { .. }
            | ToConnections::OwnRead { .. }
            | ToConnections::Registered(_)
            | ToConnections::Answer(..)
            | ToConnections::Parted { .. }
            | ToConnections::Resync(_) => Class::Kept,
        },
        // behind all that was registered and watched before
        Mail::Node(_) => Class::Kept,
    }
}

/// What a conversation is told when there was no room to tell it of a device.
pub(super) fn watch_again(c: ConversationId, slice: Slice, watch: WatchId) -> Mail {
    Mail::Conversation(c, ToConversation::Dropped { slice, watch })
}

/// The list of sockets that a piece of mail names.
pub(super) fn recipients(mail: &mut Mail) -> Option<&mut Vec<ConnId>> {
    let Mail::Connections(mail) = mail else { return None };
    match mail {
        ToConnections::Event(fanout) => Some(&mut fanout.to),
        ToConnections::Head { to, .. }
        | ToConnections::Receipts { to, .. }
        | ToConnections::Typing { to, .. }
        | ToConnections::List { to, .. }
        | ToConnections::OwnRead { to, .. }
        | ToConnections::Presence { to, .. }
        | ToConnections::Parted { to, .. }
        | ToConnections::Resync(to) => Some(to),
        ToConnections::Registered(_) | ToConnections::Answer(..) => None,
    }
}
