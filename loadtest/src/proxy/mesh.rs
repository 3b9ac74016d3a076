//! Wires between processes that dial each other, one for each two: each process is dialled at an address of this machine,
//! and whoever dials is told from the others by its command line. So one cut concerns two, in one direction or both.
//! Knows nothing of what is said; needs Linux, and that the processes were started by this one.

use std::{
    collections::BTreeSet,
    fs,
    io::{Error, Result},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::{Fault, Shared, connection};
use crate::{random::Random, starter};

/// See the module. Dropping it cuts everything.
#[derive(Debug)]
pub struct Mesh {
    addresses: Vec<SocketAddr>,
    /// From who dials to who is dialled.
    ways: Vec<Vec<Arc<Shared>>>,
    /// What the first says does not reach the second.
    held: Mutex<BTreeSet<(usize, usize)>>,
    accepting: Vec<AbortHandle>,
}

impl Mesh {
    /// `servers`: of each process a word of its command line that no other one has, and where it listens, `host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(servers: &[(String, String)]) -> Result<Mesh> {
        let words: Arc<Vec<String>> = Arc::new(servers.iter().map(|(word, _)| word.clone()).collect());
        let way = |(_, server): &(String, String)| Arc::new(Shared::new(server, false, Random::unseeded()));
        let ways: Vec<Vec<_>> = servers.iter().map(|_| servers.iter().map(way).collect()).collect();
        let (mut addresses, mut accepting) = (Vec::new(), Vec::new());
        for to in 0..servers.len() {
            let listener = std::net::TcpListener::bind(starter::free_address()?)?;
            addresses.push(listener.local_addr()?);
            listener.set_nonblocking(true)?;
            let from_each = ways.iter().map(|ways| ways[to].clone()).collect();
            let accept = accept(TcpListener::from_std(listener)?, words.clone(), from_each);
            accepting.push(tokio::spawn(accept).abort_handle());
        }
        Ok(Mesh { addresses, ways, held: Mutex::default(), accepting })
    }

    /// Where the others dial this one.
    pub fn address(&self, of: usize) -> SocketAddr {
        self.addresses[of]
    }

    /// From now on nothing that `from` says reaches `to`, whoever of them dialled; it waits. Nobody is told.
    pub fn cut(&self, from: usize, to: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert((from, to));
        for (dials, dialled) in [(from, to), (to, from)] {
            let fault = match (held.contains(&(dials, dialled)), held.contains(&(dialled, dials))) {
                (true, true) => Fault::Stalled,
                (true, false) => Fault::Mute,
                _ => Fault::Deaf,
            };
            self.ways[dials][dialled].fault.send_replace(fault);
        }
    }

    /// [`Mesh::cut`] in both directions.
    pub fn part(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// What the two say to each other passes slowly ([`Fault::Slow`]), until [`Mesh::mend`].
    pub fn slow(&self, one: usize, other: usize) {
        self.between(one, other, Fault::Slow);
    }

    /// Connections between the two are reset. Those of the next moments are accepted and reset: who resets is somewhere
    /// between them, and nobody is told that nobody listens. Until [`Mesh::mend`].
    pub fn reset(&self, one: usize, other: usize) {
        self.between(one, other, Fault::Cut);
    }

    fn between(&self, one: usize, other: usize, fault: Fault) {
        for (dials, dialled) in [(one, other), (other, one)] {
            self.ways[dials][dialled].fault.send_replace(fault);
        }
    }

    /// Everything passes again, and what has waited first.
    pub fn mend(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for way in self.ways.iter().flatten() {
            way.fault.send_replace(Fault::None);
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
    }
}

async fn accept(listener: TcpListener, words: Arc<Vec<String>>, from_each: Vec<Arc<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (words, ways) = (words.clone(), from_each.clone());
        connections.spawn(async move {
            let Ok(at) = stream.local_addr() else { return };
            // who is nobody, or has ended meanwhile, is closed
            if let Ok(Ok(dials)) = tokio::task::spawn_blocking(move || who(from, at, &words)).await {
                carry(stream, ways[dials].clone()).await;
            }
        });
    }
}

async fn carry(stream: TcpStream, way: Arc<Shared>) {
    if *way.fault.borrow() == Fault::Cut {
        let _ = stream.set_zero_linger();
        return;
    }
    connection(stream, way).await;
}

/// Which of the processes has a socket between these two addresses. One that has ended meanwhile is found no more.
fn who(from: SocketAddr, at: SocketAddr, words: &[String]) -> Result<usize> {
    let socket = format!("socket:[{}]", inode(from, at)?);
    for child in children()? {
        let holds = fs::read_dir(format!("/proc/{child}/fd")).into_iter().flatten().flatten();
        if !holds.flat_map(|fd| fs::read_link(fd.path())).any(|link| link.as_os_str() == socket.as_str()) {
            continue;
        }
        let line = fs::read(format!("/proc/{child}/cmdline"))?;
        let is = |word: &String| line.split(|byte| *byte == 0).any(|said| said == word.as_bytes());
        let known = words.iter().position(is);
        return known.ok_or_else(|| Error::other(format!("nobody knows process {child}")));
    }
    Err(Error::other("no process of ours has that socket"))
}

/// The number of the socket that is bound to `from` and connected to `at`.
fn inode(from: SocketAddr, at: SocketAddr) -> Result<String> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let (from, at) = (in_hex(from), in_hex(at));
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = line.filter(|words| words.len() > 9 && words[1] == from && words[2] == at);
    found.next().map(|words| words[9].to_owned()).ok_or_else(|| Error::other("it is gone"))
}

/// As `/proc/net/tcp` spells it: the address as the machine keeps it, not as it travels.
fn in_hex(address: SocketAddr) -> String {
    let octets = match address {
        SocketAddr::V4(four) => u32::from_ne_bytes(four.ip().octets()),
        SocketAddr::V6(_) => 0,
    };
    format!("{octets:08X}:{:04X}", address.port())
}

fn children() -> Result<Vec<u32>> {
    let us = std::process::id();
    let all = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // after the name, which may hold anything
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    Ok(all.filter(|pid| parent(pid) == Some(us)).collect())
}
