//! Connections between nodes: accepted, dialled, proved by certificates both ways, handed to the links. Whoever says nothing
//! holds up nobody. Knows no frame and no member.

pub(crate) mod certificates;
mod greeting;
pub(crate) mod issue;
mod places;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actors::cluster::{
    link::PeerAddress,
    transport::{Dialer, NotReached, PeerStream, Transport},
};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use self::{
    certificates::{Certificates, Files},
    stream::Guarded,
};
pub(crate) use self::{
    greeting::{greeting, me},
    places::Seed,
};
use crate::{
    config::Config,
    net::{
        self,
        admission::{Admission, Permit},
    },
};

/// For one address; a name may have several.
const CONNECT_MAX: Duration = Duration::from_secs(2);
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// Handshakes of others at once: each costs a third of a millisecond and, if it is silent, [`HANDSHAKE_MAX`] of waiting.
const HANDSHAKES_MAX: usize = 64;
/// Connections of others. A full mesh has 49; the rest is for links that are being replaced.
const ACCEPTED_MAX: usize = 256;
/// Of one address: several nodes may share one.
const ACCEPTED_OF_ADDRESS_MAX: u32 = 128;
/// What who accepts says first: the dialler learns in its handshake, and not by silence, that it was taken. In TLS 1.3 it has
/// finished before its own certificate was looked at.
const TAKEN: u8 = b'+';

/// How this node meets others.
pub(crate) struct Peers {
    /// `None`: everybody is on this machine.
    certificates: Option<Certificates>,
    seeds: Vec<Seed>,
    admission: Arc<Admission>,
    handshakes: Semaphore,
}

impl Peers {
    /// Reads the certificates, if there are to be any, and looks whether they are for this node. The error is one line for
    /// the operator.
    pub(crate) fn open(config: &Config, node: &str) -> Result<Arc<Peers>, String> {
        let files = Files::of(config);
        let certificates = files.map(|files| Certificates::load(files, Some(node))).transpose();
        Ok(Arc::new(Peers {
            certificates: certificates.map_err(|unusable| unusable.to_string())?,
            seeds: config.cluster_seeds.iter().filter_map(|seed| Seed::parse(seed)).collect(),
            admission: Admission::new(ACCEPTED_MAX, ACCEPTED_OF_ADDRESS_MAX, 0, Vec::new()),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        }))
    }

    /// Reads the certificates again.
    pub(crate) fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
    }

    /// Looks now and then whether they have changed.
    pub(crate) async fn watch(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.watch().await;
        }
    }

    /// Accepts until `closing` turns true. Streams that have proved who they are go to `transport`.
    pub(crate) async fn accept(
        self: Arc<Self>, listener: TcpListener, transport: Arc<Transport>, mut closing: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = net::asked(&mut closing) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, from)) => {
                    let Ok(permit) = self.admission.admit(from.ip()) else {
                        ::metrics::counter!("starling_peers_refused_total", "reason" => "connections").increment(1);
                        continue;
                    };
                    tokio::spawn(self.clone().take(tcp, from, permit, transport.clone()));
                }
                Err(error) => net::cannot_accept(&error).await,
            }
        }
    }

    async fn take(self: Arc<Self>, tcp: TcpStream, from: SocketAddr, permit: Permit, transport: Arc<Transport>) {
        // Who is beyond the bound is not made to wait: it dials again.
        let taken = match self.handshakes.try_acquire() {
            Ok(_turn) => tokio::time::timeout(HANDSHAKE_MAX, self.welcome(tcp, permit)).await,
            Err(_) => {
                return ::metrics::counter!("starling_peers_refused_total", "reason" => "handshakes").increment(1);
            }
        };
        let why = match taken {
            Ok(Ok(stream)) => return transport.accepted(stream),
            Ok(Err(error)) => certificates::words(&error),
            Err(_) => "it says nothing".to_owned(),
        };
        ::metrics::counter!("starling_peers_refused_total", "reason" => "handshake").increment(1);
        tracing::info!(%from, why, "a connection to listen.peer came to nothing");
    }

    async fn welcome(&self, tcp: TcpStream, permit: Permit) -> std::io::Result<PeerStream> {
        let tcp = stream::prepare(tcp)?;
        let Some(certificates) = &self.certificates else {
            return say_taken(tcp).await.map(|tcp| PeerStream::new(Guarded::new(tcp, Some(permit)), None));
        };
        let tls = say_taken(certificates.accept(tcp).await?).await?;
        let names = certificates::names(tls.get_ref().1.peer_certificates());
        Ok(PeerStream::new(Guarded::new(tls, Some(permit)), Some(names)))
    }

    async fn reach(&self, address: &PeerAddress) -> Result<PeerStream, NotReached> {
        let failed = |why| NotReached { refused: false, why };
        let tcp = connect(&address.at).await?;
        match tokio::time::timeout(HANDSHAKE_MAX, self.introduce(tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(certificates::words(&error))),
            Err(_) => Err(failed("it accepts connections and says nothing".to_owned())),
        }
    }

    async fn introduce(&self, tcp: TcpStream) -> std::io::Result<PeerStream> {
        let tcp = stream::prepare(tcp)?;
        let Some(certificates) = &self.certificates else {
            return hear_taken(tcp).await.map(|tcp| PeerStream::new(Guarded::new(tcp, None), None));
        };
        let tls = hear_taken(certificates.connect(tcp).await?).await?;
        let names = certificates::names(tls.get_ref().1.peer_certificates());
        Ok(PeerStream::new(Guarded::new(tls, None), Some(names)))
    }
}

impl Dialer for Peers {
    fn dial<'a>(&'a self, address: &'a PeerAddress) -> BoxFuture<'a, Result<PeerStream, NotReached>> {
        Box::pin(self.reach(address))
    }

    fn seeds(&self) -> BoxFuture<'_, Vec<PeerAddress>> {
        Box::pin(places::look_up(&self.seeds))
    }
}

/// The first of the addresses that answers. Refused is only who is refused by all of them.
async fn connect(at: &str) -> Result<TcpStream, NotReached> {
    let not_reached = |refused, why| NotReached { refused, why };
    let addresses: Vec<SocketAddr> = match tokio::time::timeout(CONNECT_MAX, tokio::net::lookup_host(at)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(not_reached(false, format!("its name cannot be looked up: {error}"))),
        Err(_) => return Err(not_reached(false, "its name cannot be looked up in time".to_owned())),
    };
    let mut last = not_reached(false, "its name has no address".to_owned());
    let mut all_refused = true;
    for address in addresses {
        let error = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => error,
            Err(_) => std::io::ErrorKind::TimedOut.into(),
        };
        all_refused &= error.kind() == std::io::ErrorKind::ConnectionRefused;
        last = not_reached(all_refused, format!("it cannot be connected to: {error}"));
    }
    Err(last)
}

async fn say_taken<S: AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<S> {
    stream.write_all(&[TAKEN]).await?;
    stream.flush().await?;
    Ok(stream)
}

async fn hear_taken<S: AsyncRead + Unpin>(mut stream: S) -> std::io::Result<S> {
    match stream.read_u8().await? {
        TAKEN => Ok(stream),
        _ => Err(std::io::Error::other("it does not speak as a node without cluster.tls does")),
    }
}

#[cfg(test)]
mod tests;
