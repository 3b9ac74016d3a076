//! One direction of one connection: reads, waits as long as it is told to, writes.

use std::{collections::BTreeMap, io::Result, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Fate, Fault, Shared, cql};

/// Bytes read at once, and kept by the kernel on the server's side: small, so that a blocked reader is felt at once.
const BUFFER_BYTES: usize = 4 << 10;
/// So long each read of [`BUFFER_BYTES`] takes where it is slow.
const SLOW: Duration = Duration::from_millis(64);
/// Pieces that wait for their moment.
const PIECES_MAX: usize = 1024;

/// Bytes that go on together, and when.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// A connection with small buffers.
pub(super) async fn connect(server: &str) -> Result<TcpStream> {
    let address = tokio::net::lookup_host(server).await?.next();
    let address = address.ok_or_else(|| std::io::Error::other(format!("nobody is called {server}")))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(u32::try_from(BUFFER_BYTES).unwrap_or(u32::MAX))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries bytes until an end of either half; what was read before the end is still written.
pub(super) async fn carry(from: ReadHalf<'_>, to: WriteHalf<'_>, shared: &Shared, from_server: bool) {
    let (pieces, waiting) = mpsc::channel(1);
    let reading = async {
        read(from, pieces, shared, from_server).await;
        // the writer ends when it has nothing left
        std::future::pending().await
    };
    tokio::select! {
        () = reading => {}
        () = write(to, waiting, shared.fault.subscribe(), from_server) => {}
    }
}

async fn read(from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>, shared: &Shared, from_server: bool) {
    let mut fault = shared.fault.subscribe();
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let mut last_due = Instant::now();
    loop {
        let read = if shared.speaks_cql { cql::frame(&mut from).await } else { chunk(&mut from).await };
        let Ok(bytes) = read else { return };
        released(&mut fault, from_server).await;
        let passes = *fault.borrow();
        if passes == Fault::Slow {
            tokio::time::sleep(SLOW).await;
        }
        if from_server && passes == Fault::Swallowing {
            continue;
        }
        let due = match shared.fate(&bytes, from_server) {
            Fate::Swallowed => continue,
            Fate::Overtaken(takes) => Instant::now() + takes,
            Fate::InOrder(takes) => {
                last_due = last_due.max(Instant::now() + takes);
                last_due
            }
        };
        if pieces.send(Piece { due, bytes }).await.is_err() {
            return;
        }
    }
}

async fn chunk(from: &mut BufReader<ReadHalf<'_>>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; BUFFER_BYTES];
    let n = from.read(&mut bytes).await?;
    bytes.truncate(n);
    if n == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Writes each piece at its moment.
async fn write(
    mut to: WriteHalf<'_>, mut pieces: mpsc::Receiver<Piece>, mut fault: watch::Receiver<Fault>, from_server: bool,
) {
    let mut waiting: BTreeMap<(Instant, u64), Vec<u8>> = BTreeMap::new();
    let (mut number, mut ended) = (0, false);
    loop {
        let next = waiting.first_key_value().map(|((due, _), _)| *due);
        tokio::select! {
            biased;
            () = moment(next), if next.is_some() => {
                released(&mut fault, from_server).await;
                let Some((_, bytes)) = waiting.pop_first() else { continue };
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            piece = pieces.recv(), if !ended && waiting.len() < PIECES_MAX => match piece {
                Some(Piece { due, bytes }) => {
                    waiting.insert((due, number), bytes);
                    number += 1;
                }
                None => ended = true,
            },
            else => return,
        }
    }
}

async fn moment(due: Option<Instant>) {
    if let Some(due) = due
        && due > Instant::now()
    {
        tokio::time::sleep_until(due).await;
    }
}

/// Waits while the fault holds what goes this way.
async fn released(fault: &mut watch::Receiver<Fault>, from_server: bool) {
    let _ = fault.wait_for(|fault| !fault.holds(from_server)).await;
}
