//! The reading half of a client: sorts frames into replies and pushes, and writes down what the checker needs in the
//! order the socket showed it.

use std::collections::HashMap;

use futures_util::stream::SplitStream;
use protocol::{
    Code, ConversationId,
    event::{EventView, PostView, View},
    push,
};
use serde::Deserialize;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{About, Failed, Handle, pong};
use crate::{
    history::{Entry, What},
    socket::{Ended, Frame, WebSocket, next_text},
};

/// What the server says unasked, and in the same stream the own sends it acknowledges.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Push {
    /// `msg` or `evt`.
    Event(View),
    /// `ok` of a send of this socket: its event is at `seq`; with `dup` it stands further back.
    Own {
        /// Where.
        c: ConversationId,
        /// Its place.
        seq: u64,
        /// Stored by an earlier attempt.
        dup: bool,
    },
    /// `gap`.
    Gap(push::Gap),
    /// `head`.
    Head(push::Head),
    /// `rcpt`.
    Receipts(push::Receipts),
    /// `typ`.
    Typing(push::Typing),
    /// `pres`.
    Presence(push::PresenceStates),
    /// `conv`.
    List(push::ListChange),
    /// `token`.
    Token(push::TokenEnding),
    /// `bye`.
    Bye(push::Bye),
    /// `err` without `id`: the answer to a frame that was none.
    Error(Failed),
    /// A push this client does not know.
    Unknown(Frame),
    /// The socket is no more; nothing follows.
    Ended(Ended),
}

#[derive(Deserialize)]
struct Refusal {
    code: Code,
    #[serde(default)]
    message: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    after_ms: Option<u64>,
}

/// `err.d` as a failure; one that cannot be read leaves the outcome open.
pub(super) fn refusal(d: &str) -> Failed {
    match serde_json::from_str::<Refusal>(d) {
        Ok(r) => Failed::Refused { code: r.code, message: r.message, field: r.field, after_ms: r.after_ms },
        Err(e) => Failed::Lost(format!("unreadable error: {e} in {d}")),
    }
}

/// Ends all that wait for a reply, and whoever would.
fn forget(handle: &Handle, why: &str) {
    let waiting = handle.pending.lock().take();
    for waiting in waiting.into_iter().flat_map(HashMap::into_values) {
        if let (About::Send { attempt, .. }, Some(journal)) = (&waiting.about, &handle.journal) {
            journal.note(What::Unknown { attempt: *attempt, why: why.to_owned() });
        }
        waiting.reply.send(Err(Failed::Lost(why.to_owned()))).ok();
    }
}

/// What happens however reading ends, once.
struct Farewell {
    handle: Handle,
    pushes: mpsc::UnboundedSender<Push>,
    writer: AbortHandle,
    ended: Ended,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.writer.abort();
        forget(&self.handle, &self.ended.to_string());
        if let Some(journal) = &self.handle.journal {
            let code = if let Ended::Closed { code, .. } = &self.ended { Some(*code) } else { None };
            journal.note(What::Closed { code });
        }
        self.pushes.send(Push::Ended(self.ended.clone())).ok();
    }
}

pub(super) async fn read(
    mut stream: SplitStream<WebSocket>, handle: Handle, pushes: mpsc::UnboundedSender<Push>, writer: AbortHandle,
) {
    let ended = Ended::Lost("cut by this client".into());
    let mut farewell = Farewell { handle, pushes, writer, ended };
    farewell.ended = loop {
        let text = match next_text(&mut stream).await {
            Ok(text) => text,
            Err(ended) => break ended,
        };
        let taken = protocol::request::split(&text).try_for_each(|part| {
            let frame = Frame::read(part)?;
            take(&farewell.handle, frame, &farewell.pushes)
        });
        if let Err(malformed) = taken {
            break malformed;
        }
    };
}

fn take(handle: &Handle, frame: Frame, pushes: &mpsc::UnboundedSender<Push>) -> Result<(), Ended> {
    let push = match (frame.t.as_deref(), frame.id) {
        (None, _) => {
            handle.out.try_send(pong()).ok();
            return Ok(());
        }
        (Some(t @ ("ok" | "err")), Some(id)) => {
            let Some(waiting) = handle.pending.lock().as_mut().and_then(|waiting| waiting.remove(&id)) else {
                return Err(Ended::Malformed(format!("a reply to {id}, which does not wait for one")));
            };
            let answer = if t == "ok" { Ok(frame.d) } else { Err(refusal(&frame.d)) };
            let own = note_reply(handle, &waiting.about, &answer)?;
            if let Some(own) = own {
                pushes.send(own).ok();
            }
            waiting.reply.send(answer).ok();
            return Ok(());
        }
        (Some("err"), None) => Push::Error(refusal(&frame.d)),
        (Some("msg"), _) => Push::Event(View::Post(frame.content::<PostView>()?)),
        (Some("evt"), _) => Push::Event(View::Event(frame.content::<EventView>()?)),
        (Some("gap"), _) => Push::Gap(frame.content()?),
        (Some("head"), _) => Push::Head(frame.content()?),
        (Some("rcpt"), _) => Push::Receipts(frame.content()?),
        (Some("typ"), _) => Push::Typing(frame.content()?),
        (Some("pres"), _) => Push::Presence(frame.content()?),
        (Some("conv"), _) => Push::List(frame.content()?),
        (Some("token"), _) => Push::Token(frame.content()?),
        (Some("bye"), _) => Push::Bye(frame.content()?),
        (Some(_), _) => Push::Unknown(frame),
    };
    note_push(handle, &push);
    pushes.send(push).ok();
    Ok(())
}

fn note_push(handle: &Handle, push: &Push) {
    let Some(journal) = &handle.journal else { return };
    match push {
        Push::Event(view) => {
            let entry = Entry::of(view);
            let c = match view {
                View::Post(post) => post.c,
                View::Event(event) => event.c,
            };
            journal.note(What::Delivered { c, seq: entry.seq, digest: entry.digest });
        }
        Push::Gap(gap) => journal.note(What::Gap { c: gap.c, from: gap.from.0, to: gap.to.0 }),
        Push::Head(head) => journal.note(What::Head { c: head.c, seq: head.seq.0 }),
        Push::Receipts(receipts) => {
            for (of, marks) in &receipts.marks {
                let (read, delivered) = (marks.read.0, marks.delivered.0);
                journal.note(What::Marked { c: receipts.c, of: *of, read, delivered });
            }
        }
        _ => {}
    }
}

/// Writes a reply down; the `ok` of a send is also an event of the stream.
fn note_reply(handle: &Handle, about: &About, answer: &Result<String, Failed>) -> Result<Option<Push>, Ended> {
    let note = |what| {
        if let Some(journal) = &handle.journal {
            journal.note(what);
        }
    };
    match (about, answer) {
        (About::Send { attempt, c }, Ok(json)) => {
            let sent: push::Sent = read_reply(json)?;
            note(What::Acked { attempt: *attempt, seq: sent.seq.0, dup: sent.dup });
            return Ok(Some(Push::Own { c: *c, seq: sent.seq.0, dup: sent.dup }));
        }
        (About::Send { attempt, .. }, Err(failed)) => note(match failed {
            Failed::Refused { code, .. } if !failed.is_unknown() => What::Refused { attempt: *attempt, code: *code },
            other => What::Unknown { attempt: *attempt, why: other.to_string() },
        }),
        (About::Hist { asked_us, c }, Ok(json)) => {
            let page: push::HistoryPage = read_reply(json)?;
            let entries = page.messages.iter().map(Entry::of_post).chain(page.events.iter().map(Entry::of_event));
            for entry in entries {
                note(What::Fetched { c: *c, seq: entry.seq, digest: entry.digest });
            }
            note(What::Paged { c: *c, asked_us: *asked_us, head: page.head.0 });
        }
        (About::Sync { have }, Ok(json)) => {
            let synced: push::Synced = read_reply(json)?;
            for item in &synced.conversations {
                for entry in item.events.iter().map(Entry::of) {
                    note(What::Fetched { c: item.id, seq: entry.seq, digest: entry.digest });
                }
                note(What::Synced {
                    c: item.id,
                    have: have.get(&item.id).map(|seq| seq.0),
                    head: item.head.0,
                    more: item.more,
                    gap: item.gap.map(|gap| (gap.from.0, gap.to.0)),
                    read: item.read.0,
                    unread: item.unread,
                });
            }
        }
        _ => {}
    }
    Ok(None)
}

fn read_reply<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Ended> {
    serde_json::from_str(json).map_err(|e| Ended::Malformed(format!("an unexpected answer: {e} in {json}")))
}
