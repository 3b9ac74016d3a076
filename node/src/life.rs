//! What a node does between its start and its end: it waits for its place, serves, is drained, perhaps taken back, and
//! goes. Only puts in order what `actors` and the process do; decides nothing about clients.

use std::time::Duration;

use actors::{
    cluster::driver::End,
    drain::{Phase, Progress, Terms},
};
use protocol::close::CloseCode;
use tokio::sync::watch;

use crate::{
    app::{App, Stage},
    config::Config,
    shutdown::Shutdown,
};

/// Opens the doors once something is placed here, and returns when nobody is left to serve. `Some`: it is no member of its
/// cluster any more, which nobody here had asked for.
pub(crate) async fn serve(
    app: &App, config: &Config, shutdown: &Shutdown, stage: &watch::Sender<Stage>, open: impl FnOnce(),
) -> Option<End> {
    stage.send_replace(Stage::Joining(app.clone()));
    tokio::select! {
        biased;
        () = shutdown.asked() => return None,
        end = ended(app) => return Some(end),
        () = app.placed() => open(),
    }
    tokio::spawn(show(app.starling.draining()));
    let terms = |why| Terms {
        why,
        notice: config.drain_notice_ms.map(Duration::from_millis),
        rate: config.drain_rate,
        deadline: Duration::from_millis(config.drain_deadline_ms),
    };
    loop {
        tokio::select! {
            () = shutdown.asked() => {
                tracing::info!("draining");
                if app.starling.drain(terms(CloseCode::Drain), shutdown.taken_back()).await {
                    tracing::info!("drained; leaving");
                    return None;
                }
                tracing::info!("the drain was taken back; serving again");
            }
            end = ended(app) => {
                tracing::warn!(
                    "taken out of the cluster; clients are sent elsewhere, then this node begins again as another run"
                );
                stage.send_replace(Stage::Waiting("taken out of the cluster".to_owned()));
                app.starling.drain(terms(CloseCode::Moved), std::future::pending()).await;
                return Some(end);
            }
        }
    }
}

/// Waits until the others, or the store, say that this run is no member any more.
async fn ended(app: &App) -> End {
    match app.starling.membership() {
        Some(membership) => membership.ended().await,
        None => std::future::pending().await,
    }
}

/// Shows whoever scrapes it how far a drain is.
async fn show(mut draining: watch::Receiver<Progress>) {
    loop {
        let Progress { phase, told, .. } = *draining.borrow_and_update();
        let state = match phase {
            Phase::Serving => 0.0,
            Phase::Unplacing | Phase::Telling | Phase::Settling => 1.0,
            Phase::Leaving => 2.0,
        };
        ::metrics::gauge!("starling_drain_state").set(state);
        ::metrics::gauge!("starling_drain_told").set(told as f64);
        if draining.changed().await.is_err() {
            return;
        }
    }
}
