//! The least servers there can be: tokio and tungstenite, nothing decided, nothing stored. What a real server needs
//! more than these is its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::WebSocketConfig,
    },
};

use super::{CommandError, Outcome};

/// Messages that may wait for one socket; `fanout` keeps far fewer under way.
const QUEUE_MAX: usize = 1024;

#[derive(Args)]
pub(crate) struct Listen {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

/// The frame that everybody gets, as long as a post of 100 bytes.
pub(crate) fn frame() -> String {
    let (c, user, text) = ("0".repeat(32), "1".repeat(32), "x".repeat(100));
    format!(
        r#"{{"t":"msg","d":{{"c":"c_{c}","seq":1000,"post_no":999,"from":"u_{user}","cid":"fan-1000","at":1795310540001,"text":"{text}"}}}}"#
    )
}

/// Answers every message with itself.
pub(crate) async fn echo(listen: Listen) -> Result<Outcome, CommandError> {
    serve(listen.listen, |mut socket| async move {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

type Everybody = Arc<Mutex<Vec<mpsc::Sender<Utf8Bytes>>>>;

/// Every message makes every socket get one and the same frame.
pub(crate) async fn broadcast(listen: Listen) -> Result<Outcome, CommandError> {
    let everybody = Everybody::default();
    let frame = Utf8Bytes::from(frame());
    serve(listen.listen, move |socket| member(socket, everybody.clone(), frame.clone())).await
}

async fn member(socket: WebSocketStream<TcpStream>, everybody: Everybody, frame: Utf8Bytes) {
    let (sender, mut queue) = mpsc::channel(QUEUE_MAX);
    everybody.lock().expect("nobody panics while holding it").push(sender);
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            biased;
            next = queue.recv() => {
                let Some(mut next) = next else { return };
                loop {
                    if sink.feed(Message::Text(next)).await.is_err() {
                        return;
                    }
                    match queue.try_recv() {
                        Ok(more) => next = more,
                        Err(_) => break,
                    }
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
            said = stream.next() => match said {
                Some(Ok(Message::Text(_))) => {
                    let mut everybody = everybody.lock().expect("nobody panics while holding it");
                    everybody.retain(|member| {
                        !matches!(member.try_send(frame.clone()), Err(mpsc::error::TrySendError::Closed(_)))
                    });
                }
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

async fn serve<F>(
    address: SocketAddr, handle: impl Fn(WebSocketStream<TcpStream>) -> F,
) -> Result<Outcome, CommandError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let failed = |source| CommandError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    println!("ready client=http://{}", listener.local_addr().map_err(failed)?);
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(8 << 10);
    loop {
        let (stream, _) = listener.accept().await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if let Ok(socket) = accept_hdr_async_with_config(stream, accept, Some(config)).await {
            tokio::spawn(handle(socket));
        }
    }
}

#[allow(clippy::result_large_err)] // the library's signature
fn accept(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
        response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
    }
    Ok(response)
}
