//! What a node counts of the others for whoever scrapes it. Only shows; nothing is decided by it.

use std::time::Duration;

use protocol::{
    NodeId,
    cluster::{MemberState, View},
};

/// The members of the view in force, by state; `None`: this node is none of them any more and knows of no other.
pub(super) fn count(view: Option<&View>) {
    let members = || view.into_iter().flat_map(|view| &view.members);
    let show = |name: String, n: usize| metrics::gauge!("starling_cluster_nodes", "state" => name).set(n as f64);
    for state in MemberState::KNOWN {
        show(state.into(), members().filter(|member| member.state == state).count());
    }
    show("later".to_owned(), members().filter(|member| matches!(member.state, MemberState::Later(_))).count());
}

/// The round trip to one peer. While it is not known the figure is not a number, rather than the last one known.
pub(super) struct RoundTrip(metrics::Gauge);

impl RoundTrip {
    pub(super) fn of(peer: &NodeId) -> RoundTrip {
        RoundTrip(metrics::gauge!("starling_peer_rtt_seconds", "peer" => peer.as_str().to_owned()))
    }

    pub(super) fn show(&self, round_trip: Option<Duration>) {
        self.0.set(round_trip.map_or(f64::NAN, |round_trip| round_trip.as_secs_f64()));
    }
}

impl Drop for RoundTrip {
    fn drop(&mut self) {
        self.show(None);
    }
}

impl std::fmt::Debug for RoundTrip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoundTrip")
    }
}
