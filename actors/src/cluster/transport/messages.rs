//! What the two remotable actors of a node are sent, as bytes. The only message types of this crate that leave the process:
//! all others are local. What cannot be read is dropped by the runtime and harms nobody.

use bytes::Bytes;
use ractor::message::{BoxedDowncastErr, SerializedMessage};

/// A secret of one link, chosen by the receiver and told to the peer when the link is made. Whoever bears it speaks for that
/// link and for no other: the actors are one per node, and the runtime does not tell them from which link mail came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token(pub(super) [u8; 16]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// To the actor that takes parcels and their acknowledgements.
pub(super) enum RouterMsg {
    Frame(Token, Bytes),
}

/// To the actor that takes what must not wait behind parcels.
pub(super) enum CtlMsg {
    /// An encoded greeting.
    Greeting(Token, Bytes),
    /// The link stands.
    Welcome(Token),
    /// It will not: why, for people.
    Refusal(Token, String),
    /// An encoded beat.
    Beat(Token, Bytes),
}

impl ractor::Message for RouterMsg {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        let RouterMsg::Frame(token, frame) = self;
        Ok(cast("frame", token, &frame))
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match read(message)? {
            (variant, token, frame) if variant == "frame" => Ok(RouterMsg::Frame(token, frame)),
            _ => Err(BoxedDowncastErr),
        }
    }
}

impl ractor::Message for CtlMsg {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Ok(match self {
            CtlMsg::Greeting(token, frame) => cast("greeting", token, &frame),
            CtlMsg::Welcome(token) => cast("welcome", token, &[]),
            CtlMsg::Refusal(token, why) => cast("refusal", token, why.as_bytes()),
            CtlMsg::Beat(token, frame) => cast("beat", token, &frame),
        })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        let (variant, token, rest) = read(message)?;
        match variant.as_str() {
            "greeting" => Ok(CtlMsg::Greeting(token, rest)),
            "welcome" => Ok(CtlMsg::Welcome(token)),
            "refusal" => Ok(CtlMsg::Refusal(token, String::from_utf8_lossy(&rest).into_owned())),
            "beat" => Ok(CtlMsg::Beat(token, rest)),
            _ => Err(BoxedDowncastErr),
        }
    }
}

fn cast(variant: &str, token: Token, rest: &[u8]) -> SerializedMessage {
    let mut args = Vec::with_capacity(token.0.len() + rest.len());
    args.extend_from_slice(&token.0);
    args.extend_from_slice(rest);
    SerializedMessage::Cast { variant: variant.to_owned(), args, metadata: None }
}

/// Casts only: who calls waits for an answer that a lost link never gives.
fn read(message: SerializedMessage) -> Result<(String, Token, Bytes), BoxedDowncastErr> {
    let SerializedMessage::Cast { variant, args, .. } = message else { return Err(BoxedDowncastErr) };
    let args = Bytes::from(args);
    let token = args.first_chunk().copied().ok_or(BoxedDowncastErr)?;
    Ok((variant, Token(token), args.slice(size_of::<Token>()..)))
}

#[cfg(test)]
mod tests {
    use ractor::Message;

    use super::*;

    const TOKEN: Token = Token([7; 16]);

    fn bytes(variant: &str, args: &[u8]) -> SerializedMessage {
        SerializedMessage::Cast { variant: variant.to_owned(), args: args.to_vec(), metadata: None }
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        let sent = RouterMsg::Frame(TOKEN, Bytes::from_static(b"parcels")).serialize().unwrap();
        let RouterMsg::Frame(token, frame) = RouterMsg::deserialize(sent).unwrap();
        assert_eq!((token, &frame[..]), (TOKEN, &b"parcels"[..]));

        let sent = CtlMsg::Refusal(TOKEN, "cluster.name differs".to_owned()).serialize().unwrap();
        let Ok(CtlMsg::Refusal(TOKEN, why)) = CtlMsg::deserialize(sent) else { panic!("not a refusal") };
        assert_eq!(why, "cluster.name differs");
        let sent = CtlMsg::Welcome(TOKEN).serialize().unwrap();
        assert!(matches!(CtlMsg::deserialize(sent), Ok(CtlMsg::Welcome(TOKEN))));
    }

    #[test]
    fn what_is_too_short_or_of_no_known_kind_is_an_error_and_not_a_panic() {
        for args in [&b""[..], b"fifteen bytes..", &[0xff; 15]] {
            assert!(RouterMsg::deserialize(bytes("frame", args)).is_err());
            assert!(CtlMsg::deserialize(bytes("beat", args)).is_err());
        }
        assert!(RouterMsg::deserialize(bytes("beat", &[0; 16])).is_err());
        assert!(CtlMsg::deserialize(bytes("of a later release", &[0; 16])).is_err());
        let (reply, _answer) = tokio::sync::oneshot::channel::<Vec<u8>>();
        let call = SerializedMessage::Call {
            variant: "frame".to_owned(),
            args: vec![0; 16],
            reply: reply.into(),
            metadata: None,
        };
        assert!(RouterMsg::deserialize(call).is_err(), "nobody is called");
    }
}
