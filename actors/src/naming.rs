//! Names that follow from what they name: hashes of requests, ids of conversations.

use protocol::{ConversationId, UserId};
use serde::Serialize;

/// Names a request, so that another one under the same client id is noticed.
pub(crate) fn hash(what: &str, request: &impl Serialize) -> [u8; 16] {
    let mut bytes = what.as_bytes().to_vec();
    bytes.push(0);
    // through a value, whose keys are sorted: the order a client writes them in means nothing
    if let Ok(value) = serde_json::to_value(request) {
        bytes.extend_from_slice(value.to_string().as_bytes());
    }
    digest(&bytes)
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    half
}

/// The id of the one direct conversation of two users, whoever begins it.
pub(crate) fn direct_id(a: UserId, b: UserId) -> ConversationId {
    let (first, second) = if a < b { (a, b) } else { (b, a) };
    ConversationId(digest(&[b"direct\0".as_slice(), &first.0, &second.0].concat()))
}

/// The id of a group or channel: the same for the same creator and key, so that a repeated request makes one.
pub(crate) fn group_id(creator: UserId, key: &[u8]) -> ConversationId {
    ConversationId(digest(&[b"group\0".as_slice(), &creator.0, key].concat()))
}
