//! Configuration as text: the effective values with their origin, and the documented defaults (`cluster.toml`).

use std::fmt::Write;

use super::{
    Loaded,
    keys::{KEYS, Key},
    value::{Kind, Value},
};

/// Every effective value with its origin, secrets masked.
pub(crate) fn effective(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (key, (value, origin)) in KEYS.iter().zip(&loaded.values) {
        let shown = match value {
            Value::Unset => "(unset)".to_owned(),
            _ if key.kind.is_secret() => "(secret)".to_owned(),
            value => toml_value(value),
        };
        let _ = writeln!(text, "{} = {shown}  # {origin}", key.name);
    }
    text
}

/// Every key with its documentation and default: the text of `cluster.toml`.
pub(crate) fn defaults() -> String {
    let mut text = String::from(
        "# Every key of Starling's configuration with its default. What is set here is overridden by the environment\n\
         # (STARLING_<SECTION>__<KEY>, lists separated by commas) and that by flags (--set section.key=value).\n\
         # `starling config print` shows what is in effect and where it came from, `starling config check` what is wrong.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (own, word) = key.name.rsplit_once('.').expect("every key has a section");
        if own != section {
            let _ = write!(text, "\n[{own}]\n");
            section = own;
        } else {
            text.push('\n');
        }
        for line in key.docs {
            let _ = writeln!(text, "#{line}");
        }
        if let Some(bound) = bound(key) {
            let _ = writeln!(text, "# {bound}");
        }
        let _ = match key.default {
            Some(default) => writeln!(text, "{word} = {}", toml_value(&key.kind.read_text(default).expect("checked"))),
            None if matches!(key.kind, Kind::Number(..)) => writeln!(text, "#{word} = 0"),
            None => writeln!(text, "#{word} = \"\""),
        };
    }
    text
}

fn bound(key: &Key) -> Option<String> {
    match key.kind {
        Kind::Number(min, max) => Some(format!("From {min} to {max}.")),
        _ => None,
    }
}

/// A value without quotes, for messages.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Unset => String::new(),
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => items.join(","),
    }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::List(items) => toml::Value::Array(items.iter().cloned().map(toml::Value::String).collect()).to_string(),
        other => plain(other),
    }
}
