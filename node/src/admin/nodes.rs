//! `/admin/nodes`: this node and what it knows of the others. Of itself it knows everything; of another only what the view
//! and the link between the two say. What is not known is left out, never guessed.

use std::time::Duration;

use actors::cluster::membership::PeerSnapshot;
use protocol::cluster::MemberState;
use serde::{Deserialize, Serialize};

use super::{Admin, Status};
use crate::app::App;

/// What `node ls` shows.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Nodes {
    /// The version of the view that this node goes by; 0: none.
    pub(crate) view: u64,
    /// This node first, then the others in the order in which they joined.
    pub(crate) nodes: Vec<Row>,
}

/// One run of one node.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) node: String,
    /// True for the one that answers.
    pub(crate) here: bool,
    /// What it is in the view: `joining`, `up`, `no_store`, `draining`, `gone`; `starting` while it is in none.
    pub(crate) state: String,
    /// Beats go both ways between it and the one that answers.
    pub(crate) linked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Of the process; of another node since it began to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uptime_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<usize>,
    /// Conversations that it owns and that are awake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversations: Option<usize>,
    /// What waits here to be sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_ms: Option<f64>,
    /// For how long it was not heard, or did not hear the one that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silent_ms: Option<u64>,
}

impl Admin {
    /// This node and those it knows.
    pub(super) async fn nodes(&self) -> Nodes {
        let own = self.now().await;
        let app = self.stage.borrow().begun();
        match app {
            Ok(app) => self.among(own, &app),
            Err(_) => Nodes { view: 0, nodes: vec![here(own, "starting".to_owned())] },
        }
    }

    fn among(&self, own: Status, app: &App) -> Nodes {
        let Some(membership) = app.starling.membership() else {
            // it shares its store with nobody: no view says what it is
            let state = if self.shutdown.is_draining() { MemberState::Draining } else { MemberState::Up };
            return Nodes { view: 0, nodes: vec![here(own, state.into())] };
        };
        let known = membership.snapshot();
        let mut nodes = vec![here(own, known.state.map_or_else(|| "starting".to_owned(), String::from))];
        nodes.extend(known.peers.into_iter().map(there));
        Nodes { view: known.version, nodes }
    }
}

fn here(own: Status, state: String) -> Row {
    Row {
        node: own.node,
        here: true,
        state,
        linked: true,
        version: Some(own.version),
        uptime_s: Some(own.uptime_s),
        connections: Some(own.connections),
        conversations: Some(own.conversations),
        queue_bytes: None,
        round_trip_ms: None,
        silent_ms: None,
    }
}

fn there(peer: PeerSnapshot) -> Row {
    let is_live = peer.state != MemberState::Gone;
    Row {
        here: false,
        state: peer.state.into(),
        linked: peer.two_way,
        uptime_s: peer.uptime.map(|uptime| uptime.as_secs()),
        connections: None,
        conversations: None,
        queue_bytes: peer.queue_bytes.filter(|_| is_live),
        round_trip_ms: peer.round_trip.map(|way| way.as_secs_f64() * 1e3),
        silent_ms: is_live.then(|| millis(peer.silent)),
        version: peer.release,
        node: peer.node.as_str().to_owned(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
