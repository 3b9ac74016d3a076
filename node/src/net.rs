//! Connections before they are HTTP: accepted within limits, encrypted when configured, handed to hyper with the
//! deadlines it lacks. Knows no route.

pub(crate) mod address;
pub(crate) mod admission;
mod stream;
pub(crate) mod tls;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
pub(crate) use stream::Stream;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::ServiceExt;

use admission::{Admission, Permit};
use tls::Tls;

/// From the first byte to the end of the request's head; also how long a kept connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Out of descriptors: wait for some to come free instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came from; in every request's extensions.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) peer: SocketAddr,
    /// Held as long as the connection lives; a WebSocket takes it along.
    _permit: Arc<Permit>,
}

/// A listener and what answers on it.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// Asked for every request: it changes when the node is ready.
    pub(crate) router: watch::Receiver<Router>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) tls: Option<Tls>,
}

impl Door {
    /// Accepts until `closing` turns true; then requests under way are finished and nothing new is taken.
    pub(crate) async fn serve(self, mut closing: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = asked(&mut closing) => return,
                accepted = self.listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    cannot_accept(&error).await;
                    continue;
                }
            };
            match self.admission.admit(peer.ip()) {
                Ok(permit) => {
                    let _ = tcp.set_nodelay(true);
                    let connected = Connected { peer, _permit: Arc::new(permit) };
                    let (router, tls) = (self.router.clone(), self.tls.clone());
                    tokio::spawn(connection(tcp, connected, router, tls, closing.clone()));
                }
                Err(reason) => {
                    metrics::counter!("starling_connections_refused_total", "reason" => reason).increment(1);
                    turn_away(&tcp, self.tls.is_some());
                }
            }
        }
    }
}

/// 503 straight from a constant, without waiting and without a task. Nothing can be said in plain text where TLS is
/// expected.
fn turn_away(tcp: &TcpStream, tls: bool) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
        content-type: application/json\r\ncontent-length: 110\r\n\r\n\
        {\"error\":{\"code\":\"overloaded\",\"message\":\"too many connections\",\"details\":{\"retry\":true,\"after_ms\":1000}}}     \n";
    if !tls {
        // What the client has already sent is read, else closing would reset the connection under the answer.
        let _ = tcp.try_read(&mut [0; 4096]);
        let _ = tcp.try_write(BUSY);
    }
}

/// Goes on at once after what concerns one client only, later after what concerns all.
pub(crate) async fn cannot_accept(error: &std::io::Error) {
    if !is_about_the_client(error) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn is_about_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    tcp: TcpStream, connected: Connected, router: watch::Receiver<Router>, tls: Option<Tls>,
    closing: watch::Receiver<bool>,
) {
    let stream = match tls {
        None => Stream::Plain(tcp),
        // Handshakes happen here, not in the accept loop: a silent client holds up only itself.
        Some(tls) => match tokio::time::timeout(TLS_TIMEOUT, tls.accept(tcp)).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
            Ok(Err(_)) | Err(_) => {
                return metrics::counter!("starling_tls_handshakes_failed_total").increment(1);
            }
        },
    };
    // On the heap: this task lives on while the future that served HTTP is gone.
    Box::pin(http(stream, connected, router, closing)).await;
}

async fn http(
    stream: Stream, connected: Connected, router: watch::Receiver<Router>, mut closing: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connected.clone());
        let router = router.borrow().clone();
        async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = asked(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "connection ended early");
    }
}

/// Returns when it turns true, or nobody is left to turn it.
pub(crate) async fn asked(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Takes a listener's port, or says in one line why not.
pub(crate) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {key} {address}: {error}; choose another address or stop who holds it")
    })
}
