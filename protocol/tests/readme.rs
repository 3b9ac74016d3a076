//! The README says what the code does: its tables are the code's, its examples are frames.
#![allow(clippy::unwrap_used)]

use protocol::{
    Code,
    close::CloseCode,
    push::{self, ServerFrame},
    request::{Incoming, Verb, decode},
};

const README: &str = include_str!("../README.md");

/// Rows of the first table under a heading, as trimmed cells without backticks; its two head rows left out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = README.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
    rows.skip(2).map(cells).collect()
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

#[test]
fn verbs_and_pushes_are_those_of_the_code() {
    let first = |heading| table(heading).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(first("Verbs"), Verb::NAMES);
    assert_eq!(first("Pushes"), push::NAMES);
}

#[test]
fn errors_are_those_of_the_code() {
    let rows = table("Errors").into_iter().map(|row| row[..3].join(" ")).collect::<Vec<_>>();
    let expected = Code::ALL.iter().map(|code| format!("{} {} {}", code.as_str(), code.status(), yes(code.retry())));
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn close_codes_are_those_of_the_code() {
    let rows = table("Close codes").into_iter().map(|row| row.join(" ")).collect::<Vec<_>>();
    let expected =
        CloseCode::ALL.iter().map(|code| format!("{} {} {}", u16::from(*code), code.reason(), yes(code.reconnect())));
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn examples_are_frames() {
    let mut n_examples = 0;
    for line in README.lines() {
        if let Some(frame) = line.strip_prefix("→ ") {
            match decode(frame) {
                Ok(Incoming::Request { verb, .. }) => assert_eq!(verb.check(8000), Ok(()), "{frame}"),
                Ok(Incoming::Pong) => {}
                Err(bad) => panic!("{frame}: {bad:?}"),
            }
            n_examples += 1;
        } else if let Some(frame) = line.strip_prefix("← ") {
            let read: ServerFrame<'_> = serde_json::from_str(frame).unwrap();
            if let (Some("ok"), Some(d)) = (read.t.as_deref(), read.d) {
                let read = match read.id.unwrap() {
                    1 => serde_json::from_str::<push::Welcome>(d.get()).map(drop),
                    2 => serde_json::from_str::<push::Synced>(d.get()).map(drop),
                    _ => serde_json::from_str::<push::Sent>(d.get()).map(drop),
                };
                assert!(read.is_ok(), "{frame}: {read:?}");
            }
            n_examples += 1;
        }
    }
    assert_eq!(n_examples, 11);
}
