//! Where sockets come in. Stub.

use std::sync::Arc;

use bytes::Bytes;
use protocol::push::Bye;

use crate::Caller;

/// Opens connections for sockets.
pub struct Gateway {}

/// One socket's side of its session. Dropping it is the farewell.
pub struct Connection {}

/// Whether the read loop goes on.
pub enum Flow {
    /// Read on.
    Continue,
    /// Say this, then close.
    Close(Bye),
}

/// What the write loop does next.
pub enum Next {
    /// Write these, flush once.
    Frames,
    /// Write these, then `bye` and the close frame.
    Close(Bye),
}

/// The bounded queue of what a socket is to be sent; the write loop's end.
pub struct Outbound {}

#[allow(clippy::unused_async, missing_docs, unused_variables)]
impl Gateway {
    /// Handles the first WebSocket message, which must begin with `hello`; later frames of the same message are handled
    /// too. `upgrade`: who the upgrade's header or ticket proved. `Err`: say this and close. The caller bounds the time.
    pub async fn hello(&self, message: &str, upgrade: Option<Caller>) -> Result<Connection, Bye> {
        unimplemented!()
    }
}

#[allow(clippy::unused_async, missing_docs, unused_variables)]
impl Connection {
    /// Handles one text message: one or more frames. Never waits; answers come through the outbound queue.
    pub fn text(&mut self, message: &str) -> Flow {
        unimplemented!()
    }
    /// A binary message.
    pub fn binary(&mut self) -> Flow {
        unimplemented!()
    }
    /// What to write.
    pub fn outbound(&self) -> Arc<Outbound> {
        unimplemented!()
    }
}

#[allow(clippy::unused_async, missing_docs, unused_variables)]
impl Outbound {
    /// Waits until there is something to write, then moves all of it into `frames`. Cancel-safe.
    pub async fn next(&self, frames: &mut Vec<Bytes>) -> Next {
        unimplemented!()
    }
}
