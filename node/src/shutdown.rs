//! How the process ends: the operator or a signal asks for the drain. The operator may take it back; a signal stands, and
//! another one ends the process at once.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Serve,
    /// The operator's.
    Drain,
    /// A signal's: whoever sent it waits for the end.
    End,
}

/// The wish to end, seen by everybody.
#[derive(Clone)]
pub(crate) struct Shutdown(Arc<watch::Sender<Wish>>);

impl Shutdown {
    pub(crate) fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(Wish::Serve)))
    }

    /// The operator wants the drain. A signal's wish is stronger.
    pub(crate) fn drain(&self) {
        self.0.send_if_modified(|wish| {
            let wanted = *wish == Wish::Serve;
            if wanted {
                *wish = Wish::Drain;
            }
            wanted
        });
    }

    /// The operator takes it back. False: a signal has asked as well.
    pub(crate) fn take_back(&self) -> bool {
        let mut stands = false;
        self.0.send_if_modified(|wish| {
            stands = *wish == Wish::End;
            !stands && std::mem::replace(wish, Wish::Serve) != Wish::Serve
        });
        !stands
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() != Wish::Serve
    }

    /// Returns when the drain was asked for.
    pub(crate) async fn asked(&self) {
        self.until(|wish| wish != Wish::Serve).await;
    }

    /// Returns when it was taken back.
    pub(crate) async fn taken_back(&self) {
        self.until(|wish| wish == Wish::Serve).await;
    }

    /// A signal came. True: not the first.
    fn signal(&self) -> bool {
        self.0.send_replace(Wish::End) == Wish::End
    }

    async fn until(&self, wanted: impl Fn(Wish) -> bool) {
        // Fails only without a sender, and this is one.
        let _ = self.0.subscribe().wait_for(|wish| wanted(*wish)).await;
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
            if shutdown.signal() {
                tracing::warn!("asked to end twice: ending at once");
                std::process::exit(1);
            }
        }
    });
    Ok(())
}
