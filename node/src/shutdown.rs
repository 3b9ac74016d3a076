//! How the process ends: a signal or the operator asks for the drain once; asking again ends it at once.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The wish to end, seen by everybody.
#[derive(Clone)]
pub(crate) struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    pub(crate) fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(false)))
    }

    /// Asks for the drain.
    pub(crate) fn drain(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the drain was asked for.
    pub(crate) async fn asked(&self) {
        // Fails only without a sender, and this is one.
        let _ = self.0.subscribe().wait_for(|draining| *draining).await;
    }
}

/// SIGTERM and SIGINT: drain; the second one: at once. SIGHUP: `reload`.
pub(crate) fn listen(shutdown: Shutdown, reload: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {
                    reload();
                    continue;
                }
            }
            if shutdown.is_draining() {
                tracing::warn!("asked to end twice: ending at once");
                std::process::exit(1);
            }
            shutdown.drain();
        }
    });
    Ok(())
}
