//! Limits that are not a choice of the operator, each with its reason.

/// A client id is a key of an index; ULIDs and UUIDs take 26 and 36.
pub const CLIENT_ID_BYTES_MAX: usize = 64;
/// As a client id.
pub const DEVICE_BYTES_MAX: usize = 64;
/// A label of a DNS name: it stands in a certificate.
pub const NODE_BYTES_MAX: usize = 63;
/// Request ids fit a signed 32-bit integer of any client language.
pub const REQUEST_ID_MAX: u32 = i32::MAX as u32;
/// Integers that survive a JavaScript number.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Events in one append: one conditional batch of the store.
pub const BATCH_EVENTS_MAX: usize = 64;
/// Bytes of bodies in one append.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Events in one bucket of the log; no append crosses a multiple of it, on any store.
pub const BUCKET_EVENTS: u64 = 4096;
/// Members that one call may add: one event names them all.
pub const MEMBERS_PER_CALL_MAX: usize = 200;
/// Posts on a page of history.
pub const PAGE_POSTS_MAX: usize = 200;
/// Posts on a page of history unless told otherwise.
pub const PAGE_POSTS_DEFAULT: usize = 50;
/// Bytes of one answer to `hist`.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Events per conversation in one answer to `sync`.
pub const SYNC_EVENTS_MAX: usize = 100;
/// Bytes of one answer to `sync`.
pub const SYNC_BYTES_MAX: usize = 128 << 10;
/// Conversations in the list window of one `sync`.
pub const SYNC_LIST_MAX: usize = 100;
/// Users in one `watch` or presence query.
pub const WATCH_USERS_MAX: usize = 200;
/// Conversations that one socket has open at once: more than any screen shows, and what is kept for it stays small.
pub const OPEN_MAX: usize = 100;
/// Characters of a conversation's title.
pub const TITLE_CHARS_MAX: usize = 200;
/// Mentions and attachments of one post.
pub const POST_ITEMS_MAX: usize = 50;
/// Levels of objects and arrays within an attachment or `meta`. JSON readers stop at 128 and less, and in an answer to
/// `sync` a post stands deeper than in the request that brought it.
pub const NESTING_MAX: usize = 32;
/// Characters of a client's name and version in `hello`.
pub const APP_CHARS_MAX: usize = 200;
/// Features a client names in `hello`, and characters of each.
pub const CAPS_MAX: usize = 32;
/// Undecodable frames within [`BAD_FRAMES_WINDOW_MS`] that close a socket.
pub const BAD_FRAMES_MAX: usize = 10;
/// See [`BAD_FRAMES_MAX`].
pub const BAD_FRAMES_WINDOW_MS: u64 = 10_000;
/// How long a request may stay unanswered, on the socket and in REST.
pub const REQUEST_DEADLINE_MS: u64 = 10_000;
/// How long a call to a store may take.
pub const STORE_DEADLINE_MS: u64 = 2_000;
/// Slices of the users, each one presence channel.
pub const PRESENCE_SLICES: u16 = 1024;
/// A frame between nodes.
pub const PEER_FRAME_BYTES_MAX: usize = 256 << 10;
/// Of a client's request, where its conversation may be another node's: with who asks, ids and a hash it fits one frame.
pub const PEER_REQUEST_BYTES_MAX: usize = PEER_FRAME_BYTES_MAX - (16 << 10);
/// What a node accepts from a peer: room for a later version's frames.
pub const PEER_INBOUND_BYTES_MAX: usize = 1 << 20;
/// Pieces of mail in one frame between nodes.
pub const PEER_MAILS_MAX: usize = 4096;

const _: () = assert!(PEER_FRAME_BYTES_MAX <= PEER_INBOUND_BYTES_MAX);
const _: () = assert!(SYNC_BYTES_MAX <= PAGE_BYTES_MAX);
const _: () = assert!(BATCH_EVENTS_MAX as u64 <= BUCKET_EVENTS);
