//! A wire between clients and a server that a test can block: bytes then wait, first in small buffers here, then at
//! whoever sends them. Loses nothing and changes nothing.

use std::{
    io::Result,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Bytes that wait in each place: small, so that a blocked reader is felt at once.
const BUFFER_BYTES: usize = 4 << 10;

/// See the module. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    blocked: Arc<watch::Sender<bool>>,
    accepting: AbortHandle,
}

impl Proxy {
    /// A wire to `server`, `host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: &str) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let blocked = Arc::new(watch::Sender::new(false));
        let accepting = tokio::spawn(accept(listener, server.to_owned(), blocked.clone())).abort_handle();
        Ok(Proxy { address, blocked, accepting })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether what the server says stays on the wire.
    pub fn block(&self, blocked: bool) {
        self.blocked.send_replace(blocked);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, blocked: Arc<watch::Sender<bool>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (server, blocked) = (server.clone(), blocked.subscribe());
        connections.spawn(async move {
            let Ok(server) = connect(&server).await else { return };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            // either side's end is the end of both, as if there were no wire
            tokio::select! {
                () = pass(&mut from_client, &mut to_server, None) => {}
                () = pass(&mut from_server, &mut to_client, Some(blocked)) => {}
            }
        });
    }
}

async fn connect(server: &str) -> Result<TcpStream> {
    let address = tokio::net::lookup_host(server).await?.next();
    let address = address.ok_or_else(|| std::io::Error::other(format!("nobody is called {server}")))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(u32::try_from(BUFFER_BYTES).unwrap_or(u32::MAX))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries bytes until an end; while `blocked`, they wait.
async fn pass(
    from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), mut blocked: Option<watch::Receiver<bool>>,
) {
    let mut buffer = [0; BUFFER_BYTES];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if let Some(blocked) = &mut blocked {
            blocked.wait_for(|blocked| !blocked).await.ok();
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
