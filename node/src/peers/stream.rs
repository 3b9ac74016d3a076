//! A connection to a peer as its link is given it: what cannot be written in time ends it, so that a peer that stopped
//! reading is not waited for.

use std::{
    io::{ErrorKind, Result},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::net::admission::Permit;

/// What the other machine has not acknowledged for this long is lost, and so is the connection. The kernel's own patience is a
/// quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);
/// For a write that finds no room: the peer's machine answers, and the peer does not read.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// Sets what the system does not do by itself.
pub(super) fn prepare(tcp: TcpStream) -> Result<TcpStream> {
    tcp.set_nodelay(true)?;
    let ms = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&tcp, ms)?;
    Ok(tcp)
}

/// See the module.
pub(super) struct Guarded<S> {
    stream: S,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Given back with the connection.
    _permit: Option<Permit>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, permit: Option<Permit>) -> Guarded<S> {
        Guarded { stream, deadline: None, _permit: permit }
    }

    fn within<T>(&mut self, cx: &mut Context<'_>, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if polled.is_ready() {
            self.deadline = None;
            return polled;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_MAX)));
        deadline.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_kernel_gives_up_early_and_sends_at_once() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let tcp = prepare(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).unwrap();
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&tcp).unwrap(), 4_000);
        assert!(tcp.nodelay().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_and_a_slow_one_is_not() {
        let (here, mut there) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(here, None);
        let slow = tokio::spawn(async move {
            let mut read = [0; 8];
            for _ in 0..8 {
                tokio::time::sleep(WRITE_MAX / 2).await;
                tokio::io::AsyncReadExt::read_exact(&mut there, &mut read).await.unwrap();
            }
            there
        });
        guarded.write_all(&[0; 64]).await.unwrap();
        let _there = slow.await.unwrap();
        guarded.write_all(&[0; 16]).await.unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(guarded.write_all(&[0; 1]).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), WRITE_MAX.as_secs());
    }
}
