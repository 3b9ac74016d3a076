//! A WebSocket client that was not written here, in another language: `client.py` with Python's `websockets`.

use std::{path::Path, process::Command};

use crate::house::House;

#[test]
fn a_client_of_another_language_talks_goes_and_comes_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let needs = Command::new(root.join(".ci/needs")).arg("websockets").output().unwrap();
    assert!(needs.status.success(), ".ci/needs websockets: {}", String::from_utf8_lossy(&needs.stderr));
    let house = House::shared();
    let script = root.join("node/tests/e2e/client.py");
    let output = Command::new(root.join("target/tools/bin/python")).arg(script).arg(&house.url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("all of it, in order, once\n"), "{said}");
}
