//! The links between nodes, carried by ractor_cluster over streams that are handed in. Bytes of whole frames go in and come
//! out, in order per peer; which actor and which stream carries them is known here only. Never opens a socket (see
//! [`Dialer`]), never calls, and holds no more than it is given: the window is the caller's.

mod greeting;
mod hub;
mod keeper;
mod links;
mod messages;
mod receivers;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::{
    Incarnation,
    peer::{self, Frame, Greeting},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use self::{
    hub::Hub,
    links::{Input, Told},
};
use super::link::{ClusterLink, LinkEvent, PeerAddress};
use crate::world::Random;

/// For a dial, handshake included; who dials has shorter ones of its own.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// Before actors that cannot be started are tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Opens streams to peers: what a node does and actors do not.
pub trait Dialer: Send + Sync {
    /// A stream to a peer that has proved its name, within a deadline of the dialer's own.
    fn dial<'a>(&'a self, address: &'a PeerAddress) -> BoxFuture<'a, Result<PeerStream, NotReached>>;

    /// Where others may be, for who knows nobody; looked up anew each time.
    fn seeds(&self) -> BoxFuture<'_, Vec<PeerAddress>>;
}

/// Why a dial came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct NotReached {
    /// The machine answered that nobody listens there.
    pub refused: bool,
    /// For people.
    pub why: String,
}

/// A connection to a peer, after its handshake.
pub struct PeerStream {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    names: Option<Vec<String>>,
}

impl PeerStream {
    /// `names`: what the peer's certificate bears, of which one must be what it calls itself; `None`: there are no
    /// certificates here, and it is believed.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static, names: Option<Vec<String>>) -> PeerStream {
        let (reader, writer) = tokio::io::split(stream);
        PeerStream { reader: Box::new(reader), writer: Box::new(writer), names }
    }
}

/// What happens on the links, in order per peer.
pub struct Events(UnboundedReceiver<Told>);

impl Events {
    /// The next one. What is not taken counts against its sender, who is dropped if it is too much.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.0.recv().await.map(Told::take)
    }
}

#[cfg(test)]
impl Events {
    /// Nothing ever happens; a test says what does.
    pub(crate) fn none() -> Events {
        Events(unbounded_channel().1)
    }
}

/// Why there are no links.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What this node would say of itself is more than a frame holds.
    #[error("cannot greet peers: {0}")]
    Greeting(#[from] peer::FrameError),
    /// The actor runtime.
    #[error("cannot start the actors that peers reach: {0}")]
    Runtime(#[from] ractor::SpawnErr),
}

/// See the module. Lives as long as the process.
pub struct Transport {
    hub: Arc<Hub>,
    dialer: Arc<dyn Dialer>,
}

impl Transport {
    /// Starts the two actors that peers reach.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        ours: Greeting, dialer: Arc<dyn Dialer>, random: Arc<dyn Random>,
    ) -> Result<(Arc<Transport>, Events), StartError> {
        let greeting = peer::encode(&Frame::Greeting(ours.clone()), peer::VERSIONS.0)?;
        let (tell, told) = unbounded_channel();
        let hub = Arc::new(Hub::new(ours, greeting, random, tell));
        let ended = receivers::start(&hub).await?;
        tokio::spawn(restart(hub.clone(), ended));
        Ok((Arc::new(Transport { hub, dialer }), Events(told)))
    }

    /// Takes a stream that a peer has opened.
    pub fn accepted(&self, stream: PeerStream) {
        tokio::spawn(self.hub.clone().carry(stream, None));
    }
}

impl ClusterLink for Transport {
    fn dial(&self, address: PeerAddress) {
        let (hub, dialer) = (self.hub.clone(), self.dialer.clone());
        tokio::spawn(async move {
            let dialled = tokio::time::timeout(DIAL_MAX, dialer.dial(&address)).await;
            let NotReached { refused, why } = match dialled {
                Ok(Ok(stream)) => return hub.carry(stream, Some(address)).await,
                Ok(Err(not_reached)) => not_reached,
                Err(_) => NotReached { refused: false, why: "no answer in time".to_owned() },
            };
            hub.tell(Told::of(LinkEvent::NotReached { address, refused, misfit: false, why }));
        });
    }

    fn send(&self, peer: Incarnation, frame: Bytes) {
        self.hub.send(peer, frame);
    }

    fn drop_peer(&self, peer: Incarnation) {
        self.hub.step(Input::Drop { peer });
    }
}

/// The runtime restarts nobody. An actor that failed takes all links along, for its mail is lost; they are made again.
async fn restart(hub: Arc<Hub>, mut ended: [ractor::concurrency::JoinHandle<()>; 2]) {
    loop {
        let [router, ctl] = &mut ended;
        tokio::select! {
            _ = &mut *router => ctl.abort(),
            _ = &mut *ctl => router.abort(),
        }
        tracing::error!("an actor that peers reach has failed; all links are made anew");
        hub.step(Input::Restarted);
        ended = loop {
            match receivers::start(&hub).await {
                Ok(ended) => break ended,
                Err(error) => tracing::error!(%error, "cannot start the actors that peers reach"),
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        };
    }
}

#[cfg(test)]
mod tests;
