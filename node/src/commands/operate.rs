//! Commands that ask a running node.

use hyper::Method;
use serde_json::{Value, json};

use super::client::ask;
use crate::{
    cli::{Keys, Output, User},
    config::Config,
    report::{Failure, say},
};

type Done = Result<(), Failure>;

pub(super) fn keys(config: &Config, keys: Keys) -> Done {
    match keys {
        Keys::Rotate => {
            let made = ask(config, Method::POST, "/admin/keys/rotate", None)?;
            say(&format!("signing with {} from now on; older keys still verify", text(&made["kid"])));
        }
        Keys::Ls { output } => {
            let all = ask(config, Method::GET, "/admin/keys", None)?;
            if output == Output::Json {
                return json(&all);
            }
            for key in all.as_array().into_iter().flatten() {
                let signs = if key["signs"] == true { "signs" } else { "verifies" };
                say(&format!("{}  {signs}  made at {}", text(&key["kid"]), key["made_at"]));
            }
        }
    }
    Ok(())
}

pub(super) fn user(config: &Config, user: User) -> Done {
    let path = |name: &str, rest: &str| format!("/admin/users/{}{rest}", escaped(name));
    match user {
        User::Add { username } => {
            let mut password = String::new();
            let read = std::io::stdin().read_line(&mut password);
            read.map_err(|error| Failure::Failed(format!("cannot read the password from stdin: {error}")))?;
            let body = json!({ "username": username, "password": password.trim_end_matches(['\r', '\n']) });
            let made = ask(config, Method::POST, "/admin/users", Some(&body))?;
            say(text(&made["id"]));
        }
        User::Ban { username } => drop(ask(config, Method::POST, &path(&username, "/ban"), None)?),
        User::Unban { username } => drop(ask(config, Method::POST, &path(&username, "/unban"), None)?),
        User::Show { username, output } => {
            let shown = ask(config, Method::GET, &path(&username, ""), None)?;
            if output == Output::Json {
                return json(&shown);
            }
            for (name, value) in shown.as_object().into_iter().flatten().filter(|(name, _)| *name != "sign_ins") {
                say(&format!("{name}: {}", plain(value)));
            }
            for sign_in in shown["sign_ins"].as_array().into_iter().flatten() {
                let device = sign_in.get("device_name").map(|name| format!(" ({})", plain(name))).unwrap_or_default();
                say(&format!("signed in: {} from {}{device}", plain(&sign_in["at"]), plain(&sign_in["address"])));
            }
        }
    }
    Ok(())
}

pub(super) fn drain(config: &Config) -> Done {
    ask(config, Method::POST, "/admin/drain", None)?;
    say("draining; the process ends when all clients are gone; until then `starling node undrain` takes it back");
    Ok(())
}

pub(super) fn undrain(config: &Config) -> Done {
    ask(config, Method::POST, "/admin/undrain", None)?;
    say("not draining; it takes clients");
    Ok(())
}

fn json(value: &Value) -> Done {
    say(&value.to_string());
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name as one segment of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
