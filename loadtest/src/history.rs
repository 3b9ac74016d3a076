//! What the clients of a run did and saw, each with its time, and what the server's logs held at the end. Plain data
//! that outlives the run as files of JSON lines; what it means is decided by [`crate::checker`].

use std::{
    io::{BufRead, Write},
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use protocol::{
    ClientId, Code, ConversationId, Post, UserId,
    event::{EventView, PostView, View},
};
use serde::{Deserialize, Serialize};

/// Everything recorded in one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What the devices did and saw, each device in its own order.
    pub records: Vec<Record>,
    /// The logs, as read back at the end; the same conversation may be there several times, read by different users.
    pub logs: Vec<Log>,
}

/// One thing that happened on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds; comparable within one machine.
    pub at_us: u64,
    /// Which device of the run.
    pub device: u32,
    /// Its user.
    pub user: UserId,
    /// Its how-many-th socket.
    pub socket: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// See [`Record`]. `c` is the conversation, `digest` stands for a whole event, `content` for a post without its frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum What {
    /// A socket said `hello` and was welcomed.
    Connected,
    /// It ended.
    Closed { code: Option<u16> },
    /// A `send` left. `attempt` is unique on its device.
    Sent { attempt: u64, c: ConversationId, cid: ClientId, content: u64 },
    /// `ok` came for it.
    Acked { attempt: u64, seq: u64, dup: bool },
    /// An error came for it that says it is not stored.
    Refused { attempt: u64, code: Code },
    /// It has no answer, or one that leaves it open. An answer may still follow.
    Unknown { attempt: u64, why: String },
    /// The answer to `sync` said that everything above `head` will be pushed.
    /// The events it carried stand right before as `Fetched`.
    Synced {
        c: ConversationId,
        have: Option<u64>,
        head: u64,
        more: bool,
        gap: Option<(u64, u64)>,
        read: u64,
        unread: u64,
    },
    /// A `msg` or `evt` was pushed.
    Delivered { c: ConversationId, seq: u64, digest: u64 },
    /// An event was in an answer to `sync` or `hist`.
    Fetched { c: ConversationId, seq: u64, digest: u64 },
    /// `gap` was pushed.
    Gap { c: ConversationId, from: u64, to: u64 },
    /// `head` was pushed.
    Head { c: ConversationId, seq: u64 },
    /// An answer to a `hist` that was asked at `asked_us`.
    Paged { c: ConversationId, asked_us: u64, head: u64 },
    /// `rcpt` was pushed.
    Marked { c: ConversationId, of: UserId, read: u64, delivered: u64 },
    /// The run waited until nothing moved any more; the log ended at `head`.
    Settled { c: ConversationId, head: u64 },
}

/// One log as somebody read it at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// The conversation.
    pub c: ConversationId,
    /// Who read it, and where.
    pub reader: String,
    /// What the server said its last seq is.
    pub head: u64,
    /// Its events, in the order they came.
    pub entries: Vec<Entry>,
}

/// One event of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub seq: u64,
    /// Who made it.
    pub by: UserId,
    /// Under which name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// The post's number and the digest of what was posted, if it is a post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<(u64, u64)>,
    /// Digest of the whole event.
    pub digest: u64,
    /// Who is a member from here on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<UserId>,
    /// Who is none any more after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<UserId>,
}

impl Entry {
    /// An event as a client was shown it.
    pub fn of(view: &View) -> Entry {
        match view {
            View::Post(post) => Entry::of_post(post),
            View::Event(event) => Entry::of_event(event),
        }
    }

    /// A post.
    pub fn of_post(view: &PostView) -> Entry {
        Entry {
            seq: view.seq.0,
            by: view.from,
            cid: view.cid.clone(),
            post: Some((view.post_no, content(&view.post))),
            digest: digest(view),
            joined: Vec::new(),
            gone: None,
        }
    }

    /// Any other event.
    pub fn of_event(view: &EventView) -> Entry {
        let users = |key: &str| -> Vec<UserId> {
            view.detail.get(key).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default()
        };
        let (joined, gone) = match view.kind.as_str() {
            "create" => (users("members"), None),
            "join" => (users("users"), None),
            "leave" => (Vec::new(), Some(view.by)),
            "remove" => (Vec::new(), view.detail.get("user").and_then(|v| serde_json::from_value(v.clone()).ok())),
            _ => (Vec::new(), None),
        };
        Entry { seq: view.seq.0, by: view.by, cid: view.cid.clone(), post: None, digest: digest(view), joined, gone }
    }
}

/// Stands for what was posted.
pub fn content(post: &Post) -> u64 {
    digest(post)
}

/// FNV-1a over the JSON of `value`: the same on every machine and in every release, for bytes without an enemy.
pub fn digest(value: &impl Serialize) -> u64 {
    let bytes = serde_json::to_vec(value).expect("plain data always serialises");
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes down what one device does and sees. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Recorder {
    device: u32,
    user: UserId,
    clock: RunClock,
    records: Arc<Mutex<Vec<Record>>>,
}

/// The time of a run: Unix time at its start, monotonic from there.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    start: Instant,
    start_us: u64,
}

impl RunClock {
    /// Starts now.
    pub fn start() -> RunClock {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        RunClock { start: Instant::now(), start_us: u64::try_from(unix.as_micros()).unwrap_or(0) }
    }

    /// Microseconds now.
    pub fn now_us(&self) -> u64 {
        self.start_us + u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }
}

impl Recorder {
    /// A recorder of `device`; numbers of devices are unique in a run.
    pub fn new(clock: RunClock, device: u32, user: UserId) -> Recorder {
        Recorder { device, user, clock, records: Arc::default() }
    }

    /// Writes down that something happened on `socket` just now.
    pub fn note(&self, socket: u32, what: What) {
        let record = Record { at_us: self.clock.now_us(), device: self.device, user: self.user, socket, what };
        self.records.lock().expect("nobody panics while holding it").push(record);
    }

    /// The time now, as records carry it.
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Takes what was written so far.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock().expect("nobody panics while holding it"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Record),
    Log(Log),
}

impl History {
    /// Writes everything as JSON lines.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, mut to: impl Write) -> std::io::Result<()> {
        for record in &self.records {
            serde_json::to_writer(&mut to, record)?;
            to.write_all(b"\n")?;
        }
        for log in &self.logs {
            serde_json::to_writer(&mut to, log)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Adds what another run, or another part of the same one, wrote. Its devices get numbers of their own.
    ///
    /// # Errors
    /// What the reader says; a line that is neither record nor log is named by its number.
    pub fn read(&mut self, from: impl BufRead) -> std::io::Result<()> {
        let first = self.records.iter().map(|r| r.device + 1).max().unwrap_or(0);
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str(&line) {
                Ok(Line::Record(record)) => {
                    self.records.push(Record { device: record.device + first, ..record });
                }
                Ok(Line::Log(log)) => self.logs.push(log),
                Err(e) => {
                    let message = format!("line {} is neither a record nor a log: {e}", number + 1);
                    return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
                }
            }
        }
        Ok(())
    }
}
