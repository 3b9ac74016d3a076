//! One socket as JSON: says what it is told to say and keeps what comes in the order it came. Everything waits with a
//! deadline, nothing is interpreted but pings.

use std::{collections::VecDeque, time::Duration};

use loadtest::{
    Socket, Target,
    socket::{Ended, Upgrade},
};
use serde_json::{Value, json};

/// Ten times what is promised, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct Wire {
    socket: Socket,
    last_id: u64,
    /// Pushes that came while something else was waited for.
    kept: VecDeque<(String, Value)>,
    /// Answers that came while something else was waited for.
    answers: Vec<(u64, String, Value)>,
}

impl Wire {
    pub(crate) async fn connect(target: &Target, upgrade: &Upgrade) -> Wire {
        Wire::over(Socket::connect(target, upgrade).await.unwrap())
    }

    pub(crate) fn over(socket: Socket) -> Wire {
        Wire { socket, last_id: 0, kept: VecDeque::new(), answers: Vec::new() }
    }

    /// Writes text as it is.
    pub(crate) async fn raw(&mut self, text: impl Into<String>) {
        self.socket.send_text(text.into()).await.unwrap();
    }

    pub(crate) async fn binary(&mut self, bytes: Vec<u8>) {
        self.socket.send_binary(bytes).await.unwrap();
    }

    /// A frame that wants an answer, not yet written, and its id.
    pub(crate) fn frame(&mut self, verb: &str, d: Value) -> (u64, String) {
        self.last_id += 1;
        (self.last_id, json!({"t": verb, "id": self.last_id, "d": d}).to_string())
    }

    /// Asks without waiting for the answer.
    pub(crate) async fn say(&mut self, verb: &str, d: Value) -> u64 {
        let (id, frame) = self.frame(verb, d);
        self.raw(frame).await;
        id
    }

    /// Says something and wants no reply.
    pub(crate) async fn tell(&mut self, verb: &str, d: Value) {
        self.raw(json!({"t": verb, "d": d}).to_string()).await;
    }

    /// The answer to a request; what else comes is kept.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<Value, Value> {
        loop {
            if let Some(at) = self.answers.iter().position(|(of, ..)| *of == id) {
                let (_, t, d) = self.answers.remove(at);
                return if t == "ok" { Ok(d) } else { Err(d) };
            }
            self.read().await.unwrap_or_else(|ended| panic!("no answer to {id}: {ended}; kept {:?}", self.kept));
        }
    }

    /// Asks, and what is asked for is granted.
    pub(crate) async fn ask(&mut self, verb: &str, d: Value) -> Value {
        let id = self.say(verb, d.clone()).await;
        self.answer(id).await.unwrap_or_else(|refusal| panic!("{verb} {d}: {refusal}"))
    }

    /// Asks, and is refused with this code.
    pub(crate) async fn refused(&mut self, verb: &str, d: Value, code: &str) -> Value {
        let id = self.say(verb, d.clone()).await;
        match self.answer(id).await {
            Err(refusal) if refusal["code"] == code => refusal,
            other => panic!("{verb} {d}: expected {code}, got {other:?}"),
        }
    }

    /// The next push of this kind; others are kept.
    pub(crate) async fn push(&mut self, kind: &str) -> Value {
        loop {
            if let Some(at) = self.kept.iter().position(|(t, _)| t == kind) {
                return self.kept.remove(at).unwrap().1;
            }
            self.read().await.unwrap_or_else(|ended| panic!("no push {kind}: {ended}; kept {:?}", self.kept));
        }
    }

    /// The next push, whatever it is.
    pub(crate) async fn any_push(&mut self) -> (String, Value) {
        loop {
            if let Some(push) = self.kept.pop_front() {
                return push;
            }
            self.read().await.unwrap_or_else(|ended| panic!("no push: {ended}"));
        }
    }

    /// All pushes so far, in order: what the server had for this socket before it answered one more request.
    pub(crate) async fn pushes(&mut self) -> Vec<(String, Value)> {
        self.refused("nothing-at-all", json!({}), "unknown_type").await;
        self.kept.drain(..).collect()
    }

    /// The next `n` answers to sends and pushed events, mixed as they came; an answer with its id.
    pub(crate) async fn stream(&mut self, n: usize) -> Vec<(Option<u64>, Value)> {
        let mut stream = Vec::new();
        while stream.len() < n {
            let frame = self.socket.next_frame(PATIENCE).await.unwrap();
            match frame.t.as_deref() {
                Some("ok" | "msg" | "evt") => {
                    stream.push((frame.id.map(u64::from), serde_json::from_str(&frame.d).unwrap()));
                }
                Some("head" | "conv") => {}
                None => self.raw("{}").await,
                other => panic!("{other:?}: {}", frame.d),
            }
        }
        stream
    }

    /// All `msg` and `evt` so far, as the seqs they have.
    pub(crate) async fn seqs(&mut self, c: &str) -> Vec<u64> {
        let pushes = self.pushes().await;
        let events = pushes.iter().filter(|(t, d)| (t == "msg" || t == "evt") && d["c"] == c);
        events.map(|(_, d)| d["seq"].as_u64().unwrap()).collect()
    }

    /// The close code; a `bye` with the same code must have come before it, if the server was the one to close.
    pub(crate) async fn ended(&mut self) -> u16 {
        loop {
            match self.read().await {
                Ok(()) => {}
                Err(Ended::Closed { code, .. }) => {
                    let bye = self.kept.iter().find(|(t, _)| t == "bye");
                    assert_eq!(
                        bye.map(|(_, d)| d["code"].as_u64().unwrap()),
                        Some(code.into()),
                        "bye before the close"
                    );
                    return code;
                }
                Err(other) => panic!("expected a close frame: {other}; kept {:?}", self.kept),
            }
        }
    }

    /// The close code after this is the first thing said.
    pub(crate) async fn said_first(&mut self, frame: Value) -> u16 {
        self.raw(frame.to_string()).await;
        self.ended().await
    }

    /// The close code, if pings are never answered.
    pub(crate) async fn ended_unanswered(&mut self) -> u16 {
        loop {
            match self.socket.next_frame(PATIENCE).await {
                Ok(_) => {}
                Err(Ended::Closed { code, .. }) => return code,
                Err(other) => panic!("expected a close frame: {other}"),
            }
        }
    }

    /// Answers that many pings and says how many there were.
    pub(crate) async fn answer_pings(&mut self, n: usize) -> usize {
        let mut n_answered = 0;
        while n_answered < n {
            if self.socket.next_frame(PATIENCE).await.unwrap().t.is_none() {
                self.raw("{}").await;
                n_answered += 1;
            }
        }
        n_answered
    }

    /// Writes text, whether or not the socket is still there.
    pub(crate) async fn flood(&mut self, text: String) {
        self.socket.send_text(text).await.ok();
    }

    /// Reads until the socket ends, or has answered one more request.
    pub(crate) async fn drain(&mut self) {
        let last = self.last_id + 1;
        self.flood(json!({"t": "sync", "id": last, "d": {}}).to_string()).await;
        while let Ok(frame) = self.socket.next_frame(PATIENCE).await {
            if frame.id.map(u64::from) == Some(last) {
                return;
            }
        }
    }

    /// Reads one frame and keeps it.
    async fn read(&mut self) -> Result<(), Ended> {
        let frame = self.socket.next_frame(PATIENCE).await?;
        let Some(t) = frame.t else { return self.socket.send_text("{}").await };
        let d: Value = serde_json::from_str(&frame.d).unwrap();
        match frame.id {
            Some(id) => self.answers.push((id.into(), t, d)),
            None => self.kept.push_back((t, d)),
        }
        Ok(())
    }
}
