//! Reads what clients write: splits a message into frames, a frame into envelope and content, and names the field that
//! is wrong. Never panics, never echoes a client's text at its length; bounds are checked afterwards, see [`Verb::check`].

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Bad, Incoming, Verb};
use crate::{Code, Error, limits};

/// The frames of one WebSocket message.
pub fn split(message: &str) -> impl Iterator<Item = &str> {
    message.split('\n').map(str::trim).filter(|frame| !frame.is_empty())
}

/// Reads one frame.
///
/// # Errors
/// [`Bad`]: what to answer, and whether the frame counts as undecodable.
pub fn decode(frame: &str) -> Result<Incoming, Bad> {
    let undecodable = |message: String| Bad::Undecodable(Error::new(Code::BadFrame, message));
    if !frame.trim_start().starts_with('{') {
        return Err(undecodable("a frame is a JSON object".into()));
    }
    let envelope: Envelope<'_> = serde_json::from_str(frame).map_err(|e| undecodable(format!("not a frame: {e}")))?;
    let Some(t) = envelope.t else {
        if frame.bytes().all(|b| matches!(b, b'{' | b'}') || b.is_ascii_whitespace()) {
            return Ok(Incoming::Pong);
        }
        return Err(undecodable("a frame needs `t`, the verb".into()));
    };
    let id = envelope.id;
    if id.is_some_and(|id| id == 0 || id > limits::REQUEST_ID_MAX) {
        return Err(undecodable(format!("`id` lies between 1 and {}", limits::REQUEST_ID_MAX)));
    }
    let d = envelope.d.map_or("{}", RawValue::get);
    let verb = match t.as_ref() {
        "hello" => read(d).map(Verb::Hello),
        "auth" => read(d).map(Verb::Auth),
        "sync" => read(d).map(Verb::Sync),
        "send" => read(d).map(Verb::Send),
        "hist" => read(d).map(Verb::Hist),
        "read" => read(d).map(Verb::Read),
        "ack" => read(d).map(Verb::Ack),
        "typ" => read(d).map(Verb::Typ),
        "pres" => read(d).map(Verb::Pres),
        "watch" => read(d).map(Verb::Watch),
        "open" => read(d).map(Verb::Open),
        "close" => read(d).map(Verb::Close),
        other => {
            let shown: String = other.chars().take(32).collect();
            Err(Error::new(Code::UnknownType, format!("there is no verb `{shown}`")))
        }
    };
    match verb {
        Ok(verb) => Ok(Incoming::Request { id, verb }),
        Err(error) => Err(Bad::Refused { id, error }),
    }
}

/// Reads a JSON object into `T`; the error names the field. Used for frames and for REST bodies.
///
/// # Errors
/// [`Code::BadField`]; [`Code::BadFrame`] for what is not JSON.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    // serde would also take the fields of a struct as an array
    if !json.trim_start().starts_with('{') {
        return Err(Error::field("d", "expected an object"));
    }
    let mut source = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|e| {
        let reason = e.inner().to_string();
        // serde names a missing or doubled field in its message only
        let named = ["missing field `", "duplicate field `"].iter().find_map(|start| reason.strip_prefix(start));
        let named = named.and_then(|rest| rest.split('`').next());
        let path = e.path().to_string();
        let path = if path == "." { "" } else { path.as_str() };
        if e.inner().is_eof() || e.inner().is_syntax() && matches!(path, "" | "?") {
            return Error::new(Code::BadFrame, format!("not JSON: {}", short(&reason)));
        }
        let path = match (path, named) {
            ("", Some(field)) => field.to_owned(),
            ("", None) => "d".to_owned(),
            (path, Some(field)) if !path.ends_with(field) => format!("{path}.{field}"),
            (path, _) => path.to_owned(),
        };
        Error::field(short(&path), short(&reason))
    })?;
    source.end().map_err(|_| Error::new(Code::BadFrame, "more than one JSON value"))?;
    Ok(value)
}

/// What a client wrote comes back in messages, but not at its length.
fn short(reason: &str) -> String {
    reason.split(" at line ").next().unwrap_or(reason).chars().take(200).collect()
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    t: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    id: Option<u32>,
    #[serde(borrow, default)]
    d: Option<&'a RawValue>,
}
