//! The file: one JSON object a line, its version in the first, counts and a checksum in the last. A new kind of line or
//! field makes a new version. Knows no store.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use protocol::{
    Body, ClientId, ConversationId, DeviceId, Event, EventId, Millis, Role, Seq, SessionId, UserId, push::Marks,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Counts, MoveError};
use crate::{
    accounts::{Session, SignIn, SigningKey, User},
    directory::Member,
    fresh::Fresh,
    tokens::Family,
};

/// The version of the file that is written, and the only one that is read.
const VERSION: u32 = 2;
/// No line is longer: an event has a mebibyte at most, a user's sign-ins half of one, and escapes may make six of one byte.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Starling {
        version: u32,
        exported_at: Millis,
    },
    SigningKey(#[serde(with = "KeyLine")] SigningKey),
    User {
        handle: String,
        #[serde(with = "UserLine")]
        row: User,
        /// Newest first.
        sign_ins: Vec<SignInLine>,
    },
    Session {
        #[serde(with = "SessionLine")]
        row: Session,
        family: Option<FamilyLine>,
    },
    Conversation {
        c: ConversationId,
    },
    Event {
        c: ConversationId,
        #[serde(with = "EventLine")]
        row: Event,
    },
    Member {
        c: ConversationId,
        #[serde(with = "MemberLine")]
        row: Member,
    },
    End {
        counts: Counts,
        sha256: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SigningKey", deny_unknown_fields)]
struct KeyLine {
    kid: String,
    #[serde(with = "hex")]
    sealed: Vec<u8>,
    #[serde(with = "hex")]
    public: Vec<u8>,
    created_at: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "User", deny_unknown_fields)]
struct UserLine {
    id: UserId,
    username: String,
    display_name: String,
    email: Option<String>,
    password_hash: String,
    created_at: Millis,
    banned_at: Option<Millis>,
    deleted_at: Option<Millis>,
}

/// Of the user in whose line it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInLine {
    at: Millis,
    session: SessionId,
    address: IpAddr,
    device_name: Option<String>,
}

impl From<SignIn> for SignInLine {
    fn from(SignIn { user: _, at, session, address, device_name }: SignIn) -> SignInLine {
        SignInLine { at, session, address, device_name }
    }
}

impl SignInLine {
    pub(super) fn of(self, user: UserId) -> SignIn {
        let SignInLine { at, session, address, device_name } = self;
        SignIn { user, at, session, address, device_name }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Session", deny_unknown_fields)]
struct SessionLine {
    id: SessionId,
    user: UserId,
    device: Option<DeviceId>,
    device_name: Option<String>,
    generation: u64,
    created_at: Millis,
    last_seen_at: Millis,
    expires_at: Millis,
    revoked_at: Option<Millis>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FamilyLine {
    generation: u64,
    #[serde(with = "hex")]
    hash: [u8; 32],
    predecessor: Option<Predecessor>,
    expires_at: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predecessor {
    #[serde(with = "hex")]
    hash: [u8; 32],
    spent_at: Millis,
}

impl From<Family> for FamilyLine {
    fn from(Family { generation, hash, predecessor, expires_at }: Family) -> FamilyLine {
        let predecessor = predecessor.map(|(hash, spent_at)| Predecessor { hash, spent_at });
        FamilyLine { generation, hash, predecessor, expires_at }
    }
}

impl From<FamilyLine> for Family {
    fn from(FamilyLine { generation, hash, predecessor, expires_at }: FamilyLine) -> Family {
        let predecessor = predecessor.map(|Predecessor { hash, spent_at }| (hash, spent_at));
        Family { generation, hash, predecessor, expires_at }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Event", deny_unknown_fields)]
struct EventLine {
    seq: Seq,
    id: EventId,
    by: UserId,
    cid: Option<ClientId>,
    #[serde(with = "hex")]
    request_hash: [u8; 16],
    at: Millis,
    post_no: u64,
    #[serde(with = "stored")]
    body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Member", deny_unknown_fields)]
struct MemberLine {
    user: UserId,
    role: Role,
    joined_seq: Seq,
    left_seq: Option<Seq>,
    marks: Marks,
    read_post: u64,
}

/// An event's body as it is stored, byte for byte: as text where it is text, so that people can read it.
mod stored {
    use protocol::Body;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stored {
        kind: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hex: Option<String>,
    }

    pub(super) fn serialize<S: Serializer>(body: &Body, s: S) -> Result<S::Ok, S::Error> {
        let (text, hex) = match String::from_utf8(body.encode()) {
            Ok(text) => (Some(text), None),
            Err(other) => (None, Some(super::hex::of(other.as_bytes()))),
        };
        Stored { kind: body.kind(), text, hex }.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Body, D::Error> {
        let bytes = match Stored::deserialize(d)? {
            Stored { kind, text: Some(text), hex: None } => (kind, text.into_bytes()),
            Stored { kind, text: None, hex: Some(hex) } => (kind, super::hex::bytes(&hex).map_err(D::Error::custom)?),
            _ => return Err(D::Error::custom("a body is either text or hex")),
        };
        Body::decode(bytes.0, &bytes.1).map_err(D::Error::custom)
    }
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        let pairs = text.as_bytes().chunks_exact(2);
        let whole = pairs.remainder().is_empty();
        pairs.map(pair).collect::<Option<_>>().filter(|_| whole).ok_or("not hexadecimal digits")
    }

    pub(super) fn serialize<S: Serializer>(bytes: impl AsRef<[u8]>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&of(bytes.as_ref()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(d: D) -> Result<T, D::Error> {
        let bytes = bytes(&String::deserialize(d)?).map_err(D::Error::custom)?;
        T::try_from(bytes).map_err(|_| D::Error::custom("a hash of another length"))
    }
}

impl Counts {
    fn add(&mut self, line: &Line) {
        let n = match line {
            Line::Starling { .. } | Line::End { .. } => return,
            Line::SigningKey(_) => &mut self.signing_keys,
            Line::User { sign_ins, .. } => {
                self.sign_ins += sign_ins.len() as u64;
                &mut self.users
            }
            Line::Session { family, .. } => {
                self.families += u64::from(family.is_some());
                &mut self.sessions
            }
            Line::Conversation { .. } => &mut self.conversations,
            Line::Event { .. } => &mut self.events,
            Line::Member { .. } => &mut self.members,
        };
        *n += 1;
    }
}

/// A file on its way: it has its name only when it is whole.
pub(super) struct Writer {
    path: PathBuf,
    fresh: Fresh,
    file: BufWriter<File>,
    sum: Sha256,
    /// What was written so far.
    pub(super) counts: Counts,
}

impl Writer {
    /// Begins a file that only this user may read. One that is there is never written over.
    pub(super) fn begin(path: &Path, now: Millis) -> Result<Writer, MoveError> {
        let begun = Fresh::begin(path);
        let (fresh, file) = begun.map_err(|source| MoveError::File { path: path.to_owned(), source })?;
        let mut writer = Writer {
            path: path.to_owned(),
            fresh,
            file: BufWriter::with_capacity(1 << 16, file),
            sum: Sha256::new(),
            counts: Counts::default(),
        };
        writer.line(&Line::Starling { version: VERSION, exported_at: now })?;
        Ok(writer)
    }

    pub(super) fn line(&mut self, line: &Line) -> Result<(), MoveError> {
        let mut text = serde_json::to_vec(line).expect("names, numbers and text always serialise");
        text.push(b'\n');
        self.sum.update(&text);
        self.counts.add(line);
        self.file.write_all(&text).map_err(|source| MoveError::File { path: self.path.clone(), source })
    }

    /// Writes the last line; when this returns the file is on disk.
    pub(super) fn end(mut self) -> Result<Counts, MoveError> {
        let sha256 = hex::of(&self.sum.clone().finalize());
        self.line(&Line::End { counts: self.counts, sha256 })?;
        let kept = self.file.flush().and_then(|()| self.fresh.keep());
        kept.map_err(|source| MoveError::File { path: self.path, source })?;
        Ok(self.counts)
    }
}

/// Reads a file line by line.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    sum: Sha256,
    /// Bytes of the line that was read last; never fewer than those of a body in it.
    pub(super) line_bytes: usize,
    /// What was read so far.
    pub(super) counts: Counts,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, MoveError> {
        let file = File::open(path).map_err(|source| MoveError::File { path: path.to_owned(), source })?;
        let mut reader = Reader {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 16, file),
            line: 0,
            sum: Sha256::new(),
            line_bytes: 0,
            counts: Counts::default(),
        };
        match reader.read()? {
            Some(Line::Starling { version: VERSION, .. }) => Ok(reader),
            Some(Line::Starling { version, .. }) => {
                Err(reader.wrong(format!("version {version}, this release reads {VERSION}")))
            }
            _ => Err(reader.wrong("not the beginning of an export")),
        }
    }

    /// The next line but the last; `None`: that was all, and the file is whole.
    pub(super) fn next(&mut self) -> Result<Option<Line>, MoveError> {
        let before = self.sum.clone();
        let Some(line) = self.read()? else { return Err(self.wrong("the file ends before its last line")) };
        let Line::End { counts, sha256 } = line else {
            self.counts.add(&line);
            return Ok(Some(line));
        };
        if counts != self.counts || sha256 != hex::of(&before.finalize()) {
            return Err(self.wrong("the lines above are not those that were written: count or checksum differs"));
        }
        match self.read()? {
            None => Ok(None),
            Some(_) => Err(self.wrong("something follows the last line")),
        }
    }

    fn read(&mut self) -> Result<Option<Line>, MoveError> {
        let mut text = Vec::new();
        let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        read.map_err(|source| MoveError::File { path: self.path.clone(), source })?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        self.line_bytes = text.len();
        self.sum.update(&text);
        if text.last() != Some(&b'\n') {
            return Err(self.wrong("not a whole line"));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    /// A mistake in the line that was read last.
    pub(super) fn wrong(&self, reason: impl Into<String>) -> MoveError {
        MoveError::Line { path: self.path.clone(), line: self.line, reason: reason.into() }
    }
}
