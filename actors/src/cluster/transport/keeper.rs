//! One link as the runtime carries it. Stands where ractor_cluster has its `NodeServer`: one per link, so that there is no
//! listener, no election between links and no fate that two links share. Decides nothing: see `links`.

use std::sync::Arc;

use protocol::limits::PEER_INBOUND_BYTES_MAX;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::{
    NetworkStream, NodeServerMessage, NodeSession, NodeSessionMessage,
    node::{NodeConnectionMode, SessionCheckReply},
};

use super::{
    PeerStream,
    hub::Hub,
    links::{Input, LinkId},
};

/// Who may join is settled by certificates before the runtime sees a stream; it asks both sides for the same word.
const COOKIE: &str = "starling";
/// What the runtime and the token put around a frame.
const ENVELOPE_BYTES_MAX: usize = 512;
/// The runtime reads lengths of 8 bytes by themselves.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Keeper {
    pub(super) link: LinkId,
    pub(super) hub: Arc<Hub>,
}

/// What a link is made of.
pub(super) struct Begin {
    pub(super) stream: PeerStream,
    pub(super) dialled: bool,
    /// What the peer is told: who we are, and the token it shall bear.
    pub(super) name: String,
}

/// What the peer said of itself, and the actor that carries the link.
pub(super) struct Kept {
    name: String,
    session: ActorRef<NodeSessionMessage>,
}

impl Actor for Keeper {
    type Msg = NodeServerMessage;
    type State = Kept;
    type Arguments = Begin;

    async fn pre_start(&self, me: ActorRef<NodeServerMessage>, begin: Begin) -> Result<Kept, ActorProcessingErr> {
        let session = session(self.link, &me, &begin)?;
        let stream = NetworkStream::External {
            peer_label: None,
            local_label: None,
            reader: Box::new(tokio::io::BufReader::with_capacity(READ_BUFFER_BYTES, begin.stream.reader)),
            writer: begin.stream.writer,
        };
        let (session, _) = Actor::spawn_linked(None, session, stream, me.get_cell()).await?;
        self.hub.opened(self.link, session.clone());
        Ok(Kept { name: String::new(), session })
    }

    async fn handle(
        &self, _: ActorRef<NodeServerMessage>, message: NodeServerMessage, kept: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NodeServerMessage::UpdateSession { name, .. } => kept.name = name.name,
            NodeServerMessage::CheckSession { reply, .. } => drop(reply.send(SessionCheckReply::NoOtherConnection)),
            NodeServerMessage::ConnectionReady(_) => {
                // The two actors it had to announce are announced. From here on each start and end of each local actor
                // would be one more message to each link.
                ractor::registry::pid_registry::demonitor(kept.session.get_id());
                self.hub.ready(self.link, &kept.name);
            }
            _ => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self, me: ActorRef<NodeServerMessage>, event: SupervisionEvent, _: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        let why = match event {
            SupervisionEvent::ActorFailed(_, error) => format!("the connection failed: {error}"),
            SupervisionEvent::ActorTerminated(..) => "the connection ended".to_owned(),
            _ => return Ok(()),
        };
        self.hub.step(Input::Ended { link: self.link, why });
        me.stop(None);
        Ok(())
    }
}

fn session(link: LinkId, me: &ActorRef<NodeServerMessage>, begin: &Begin) -> Result<NodeSession, ActorProcessingErr> {
    // The library keeps the type of its names to itself; this is where it shows one.
    let blank = NodeServerMessage::UpdateSession { actor_id: me.get_id(), name: Default::default() };
    let NodeServerMessage::UpdateSession { mut name, .. } = blank else { return Err("no name".into()) };
    name.name = begin.name.clone();
    // two sides with the same one take each other for themselves
    name.connection_string = begin.name.clone();
    let session =
        NodeSession::new(link, !begin.dialled, COOKIE.to_owned(), me.clone(), name, NodeConnectionMode::Isolated);
    Ok(session.with_max_inbound_frame_size((PEER_INBOUND_BYTES_MAX + ENVELOPE_BYTES_MAX) as u64))
}
