//! `starling cluster init`: an authority and certificates for nodes, in files. Never overwrites one.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use crate::{
    peers::{
        certificates::{Certificates, Files},
        issue,
    },
    report::{Failure, complain, say},
};

/// Makes what is not there yet, and says what to write into which configuration.
pub(super) fn init(out: &Path, nodes: &[String]) -> Result<(), Failure> {
    for node in nodes {
        if !issue::is_certifiable(node) {
            complain(&format!(
                "--node {node}: a certificate cannot bear such a name; use up to 63 letters, digits, `_` and, inside, `-` \
                 and `.`"
            ));
            return Err(Failure::Configuration);
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(|error| cannot("make", out, &error))?;
    let (ca, ca_key) = (out.join("ca.pem"), out.join("ca.key"));
    let places: Vec<_> =
        nodes.iter().map(|node| (node, out.join(format!("{node}.pem")), out.join(format!("{node}.key")))).collect();
    // all of it is looked at before any of it is written
    for file in places.iter().flat_map(|(_, cert, key)| [cert, key]) {
        if file.exists() {
            let remedy = "move it away if it is to be made anew, or leave this node out";
            return Err(Failure::Failed(format!(
                "will not overwrite {}: it is there already; {remedy}",
                file.display()
            )));
        }
    }
    let authority_key = match (ca.exists(), ca_key.exists()) {
        (true, true) => std::fs::read_to_string(&ca_key).map_err(|error| cannot("read", &ca_key, &error))?,
        (false, false) => {
            let made =
                issue::authority().map_err(|error| Failure::Failed(format!("cannot make an authority: {error}")))?;
            write(&ca_key, &made.key)?;
            write(&ca, &made.cert)?;
            say(&format!("made {} and its key {}: keep the key away from the nodes", ca.display(), ca_key.display()));
            made.key
        }
        (there, _) => {
            let (there, missing) = if there { (&ca, &ca_key) } else { (&ca_key, &ca) };
            let line = format!(
                "{} is there without {}; restore it, or name another --out",
                there.display(),
                missing.display()
            );
            return Err(Failure::Failed(line));
        }
    };
    for (node, cert, key) in &places {
        let made = issue::certificate(node, &authority_key);
        let made = made.map_err(|error| Failure::Failed(format!("cannot use {}: {error}", ca_key.display())))?;
        write(key, &made.key)?;
        write(cert, &made.cert)?;
        let files = Files { ca: text(&ca), cert: text(cert), key: text(key) };
        Certificates::load(files, Some(node)).map_err(|unusable| Failure::Failed(unusable.to_string()))?;
        say(&format!("\n# into the configuration of {node}, with the paths it has there\n[node]\nid = \"{node}\""));
        say(&format!("[cluster.tls]\nca = \"{}\"\ncert = \"{}\"\nkey_file = \"{}\"", text(&ca), text(cert), text(key)));
    }
    if nodes.is_empty() {
        say(&format!("for a node's certificate: starling cluster init --out {} --node NAME", out.display()));
    }
    Ok(())
}

/// Readable by its owner only, synced, and new.
fn write(path: &Path, pem: &str) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot {what} {}: {error}; name another --out", path.display()))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
