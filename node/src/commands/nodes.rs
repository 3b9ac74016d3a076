//! `starling status` and `starling node ls`: the running node and those it knows, as a table. Each node's own word about
//! itself comes from that node only; a node that is not asked has `-` there.

use std::{io::IsTerminal, time::Duration};

use hyper::Method;
use serde_json::{Value, json};

use super::client::{ask, ask_at};
use crate::{
    admin::{
        Drain, Status,
        nodes::{Nodes, Row},
    },
    cli::{Look, Output},
    config::Config,
    report::{Failure, complain, say},
};

const EVERY: Duration = Duration::from_secs(2);
const HEAD: [&str; 8] = ["NODE", "STATE", "VERSION", "CONNECTIONS", "CONVERSATIONS", "QUEUE", "RTT", "UPTIME"];
/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How the node is, and the table.
pub(super) fn status(config: &Config, look: &Look) -> Result<(), Failure> {
    again(look, || {
        let mut status = ask(config, Method::GET, "/admin/status", None)?;
        let nodes = nodes(config, look)?;
        if look.output == Output::Json {
            status["view"] = json!(nodes.view);
            status["nodes"] = json!(nodes.nodes);
            return Ok(status.to_string());
        }
        Ok(format!("{}\n\n{}", own(read(status)?), table(&nodes)))
    })
}

/// The table alone.
pub(super) fn list(config: &Config, look: &Look) -> Result<(), Failure> {
    again(look, || {
        let nodes = nodes(config, look)?;
        Ok(if look.output == Output::Json { json!(nodes).to_string() } else { table(&nodes) })
    })
}

/// Once, or until somebody ends it: then a node that is away for a while does not.
fn again(look: &Look, shown: impl Fn() -> Result<String, Failure>) -> Result<(), Failure> {
    let clear = if look.output == Output::Text && std::io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        match shown() {
            Ok(text) if look.watch => say(&format!("{clear}{text}")),
            Err(Failure::Unreachable(line)) if look.watch => complain(&line),
            once => return once.map(|text| say(&text)),
        }
        std::thread::sleep(EVERY);
    }
}

/// What the node knows; and of those that are asked too, what they say of themselves.
fn nodes(config: &Config, look: &Look) -> Result<Nodes, Failure> {
    let mut all: Nodes = read(ask(config, Method::GET, "/admin/nodes", None)?)?;
    for address in &look.others {
        match ask_at(config, *address, Method::GET, "/admin/nodes", None) {
            Ok(answer) => tell(&mut all, read(answer)?),
            Err(Failure::Unreachable(line)) => complain(&line),
            Err(other) => return Err(other),
        }
    }
    Ok(all)
}

/// Of what another node says only what it says of itself is taken over. One that is not known here stands at the end.
fn tell(all: &mut Nodes, theirs: Nodes) {
    let Some(own) = theirs.nodes.into_iter().find(|row| row.here) else { return };
    match all.nodes.iter_mut().find(|row| row.node == own.node && row.state != "gone") {
        Some(row) => {
            (row.version, row.uptime_s) = (own.version, own.uptime_s);
            (row.connections, row.conversations) = (own.connections, own.conversations);
        }
        None => all.nodes.push(Row { here: false, linked: false, ..own }),
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::Failed(format!("this is not what a node says: {error}")))
}

fn own(now: Status) -> String {
    let state = if now.ready { "ready".to_owned() } else { format!("not ready: {}", now.unready.join(", ")) };
    let mut lines = vec![format!("node {}  version {}  up {} s  {state}", now.node, now.version, now.uptime_s)];
    lines.extend(now.drain.map(|drain| {
        let Drain { state, told, left, elapsed_ms } = drain;
        format!("drain: {state}  told {told}  still here {left}  since {} s", elapsed_ms / 1000)
    }));
    lines.extend(now.degraded.into_iter().map(|reason| format!("degraded: {reason}")));
    lines.push(format!(
        "connections {}  sessions {}  conversations {}  presence channels {}",
        now.connections, now.sessions, now.conversations, now.presence_channels
    ));
    lines.join("\n")
}

/// Columns as wide as what is in them; the node that answered is marked.
fn table(nodes: &Nodes) -> String {
    let rows = std::iter::once(HEAD.map(str::to_owned)).chain(nodes.nodes.iter().map(cells)).collect::<Vec<_>>();
    let widths: Vec<_> = (0..HEAD.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Row) -> [String; 8] {
    let mark = if row.here { "*" } else { "" };
    let silent = row.silent_ms.filter(|_| !row.linked).map(|ms| format!(" (silent {} s)", ms / 1000));
    [
        format!("{}{mark}", row.node),
        format!("{}{}", row.state, silent.unwrap_or_default()),
        or_dash(row.version.clone()),
        or_dash(row.connections),
        or_dash(row.conversations),
        or_dash(row.queue_bytes.map(|bytes| format!("{bytes} B"))),
        or_dash(row.round_trip_ms.map(|ms| format!("{ms:.1} ms"))),
        or_dash(row.uptime_s.map(duration)),
    ]
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn nodes(rows: Value) -> Nodes {
        serde_json::from_value(json!({ "view": 7, "nodes": rows })).unwrap()
    }

    fn seen_from_n1() -> Nodes {
        nodes(json!([
            { "node": "n1", "here": true, "state": "up", "linked": true, "version": "0.1.0", "uptime_s": 3_700,
              "connections": 12, "conversations": 3 },
            { "node": "n2", "here": false, "state": "gone", "linked": false },
            { "node": "n2", "here": false, "state": "up", "linked": true, "version": "0.1.0", "uptime_s": 59,
              "queue_bytes": 0, "round_trip_ms": 0.44, "silent_ms": 20 },
            { "node": "n3", "here": false, "state": "up", "linked": false, "silent_ms": 2_100 },
        ]))
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let wanted = "\
NODE  STATE            VERSION  CONNECTIONS  CONVERSATIONS  QUEUE  RTT     UPTIME
n1*   up               0.1.0    12           3              -      -       1 h 1 min
n2    gone             -        -            -              -      -       -
n2    up               0.1.0    -            -              0 B    0.4 ms  59 s
n3    up (silent 2 s)  -        -            -              -      -       -";
        assert_eq!(table(&seen_from_n1()), wanted);
    }

    #[test]
    fn what_a_node_says_of_itself_goes_to_its_row_and_a_stranger_gets_one() {
        let mut all = seen_from_n1();
        let own = |node: &str| {
            json!([{ "node": node, "here": true, "state": "draining", "linked": true, "version": "0.2.0", "uptime_s": 61,
                     "connections": 5, "conversations": 6 }])
        };
        tell(&mut all, nodes(own("n2")));
        let row = &all.nodes[2];
        assert_eq!((row.connections, row.conversations, row.uptime_s), (Some(5), Some(6), Some(61)));
        assert_eq!((row.state.as_str(), row.queue_bytes), ("up", Some(0)), "as n1 sees it");
        assert_eq!(all.nodes[1].connections, None, "a run that is gone says nothing");
        tell(&mut all, nodes(own("n9")));
        assert_eq!(all.nodes.last().unwrap().node, "n9");
    }
}
