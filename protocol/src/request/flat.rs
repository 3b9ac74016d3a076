//! How requests that carry a [`Post`] or a [`Page`] are read: written out, because serde loses the path to a field of
//! a flattened struct, and the path is what `bad_field` names.

use super::{ClientId, ConversationId, Page, Post, Seq, UserId};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Send {
    c: ConversationId,
    cid: ClientId,
    #[serde(default)]
    base: Option<Seq>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    reply_to: Option<Seq>,
    #[serde(default)]
    mentions: Vec<UserId>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    meta: Option<Value>,
}

impl From<Send> for super::Send {
    fn from(s: Send) -> super::Send {
        let Send { c, cid, base, text, reply_to, mentions, attachments, meta } = s;
        let text = text.filter(|text| !text.is_empty());
        super::Send { c, cid, base, post: Post { text, reply_to, mentions, attachments, meta } }
    }
}

#[derive(Deserialize)]
pub(super) struct Hist {
    c: ConversationId,
    #[serde(default)]
    before: Option<Seq>,
    #[serde(default)]
    after: Option<Seq>,
    #[serde(default)]
    around: Option<Seq>,
    #[serde(default)]
    limit: Option<usize>,
}

impl From<Hist> for super::Hist {
    fn from(h: Hist) -> super::Hist {
        let Hist { c, before, after, around, limit } = h;
        super::Hist { c, page: Page { before, after, around, limit } }
    }
}
