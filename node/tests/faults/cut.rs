//! Nodes that do not hear each other, or one of the two, while each of them reaches the store. The view loses one side:
//! its sockets are told to move, the other side works on, and only one epoch commits.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Scene, is_long};

/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(50);
/// How long a cut lasts at least: who was taken out has seen it and tries to come back.
const LASTS: Duration = Duration::from_secs(10);
const RESET_FOR: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_one_node_is_cut_off_from_the_others() {
    let mut scene = Scene::start("cut").await;
    lose(&mut scene, "n2 and the others do not hear each other", &[(0, 2), (2, 0), (1, 2), (2, 1)]).await;
    lose(&mut scene, "n2 hears nobody", &[(0, 2), (1, 2)]).await;
    if is_long() {
        lose(&mut scene, "nobody hears n2", &[(2, 0), (2, 1)]).await;
    }
    scene.finish().await;
}

/// n2 is lost to the others; what is said from the first to the second is held.
async fn lose(scene: &mut Scene, what: &str, cut: &[(usize, usize)]) {
    let begun = Instant::now();
    cut.iter().for_each(|(from, to)| scene.cluster.links.cut(*from, *to));
    let accepted = scene.write(0, begun, what).await;
    assert!(accepted < ACCEPTED_WITHIN);
    scene.write(1, begun, what).await;
    tokio::time::sleep(LASTS.saturating_sub(begun.elapsed())).await;
    let view = scene.cluster.nodes(0).unwrap();
    scene.tell(format_args!("n0 sees {}", states(&view)));
    assert!(is_up(&view, "n0") && is_up(&view, "n1") && !is_up(&view, "n2"), "{view}");
    let mended = Instant::now();
    scene.cluster.links.mend();
    scene.heals(mended).await;
    scene.write(2, mended, "it is mended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_links_break_between_nodes_that_live() {
    let mut scene = Scene::start("links").await;
    let begun = Instant::now();
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        scene.cluster.links.reset(one, other);
    }
    tokio::time::sleep(RESET_FOR).await;
    scene.cluster.links.mend();
    for n in 0..3 {
        scene.write(n, begun, "all links were reset").await;
    }
    scene.heals(begun).await;
    if is_long() {
        let begun = Instant::now();
        scene.cluster.links.part(0, 1);
        scene.write(2, begun, "n0 and n1 do not hear each other").await;
        tokio::time::sleep(LASTS.saturating_sub(begun.elapsed())).await;
        let view = scene.cluster.nodes(2).unwrap();
        scene.tell(format_args!("n2 sees {}", states(&view)));
        assert!(is_up(&view, "n0") != is_up(&view, "n1"), "{view}");
        let mended = Instant::now();
        scene.cluster.links.mend();
        scene.heals(mended).await;
    }
    scene.finish().await;
}

fn members(view: &Value) -> impl Iterator<Item = (&str, &str)> {
    view["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| (node["node"].as_str().unwrap_or_default(), node["state"].as_str().unwrap_or_default()))
}

fn is_up(view: &Value, wanted: &str) -> bool {
    members(view).any(|(node, state)| node == wanted && state == "up")
}

fn states(view: &Value) -> String {
    members(view).map(|(node, state)| format!("{node} {state}")).collect::<Vec<_>>().join(", ")
}
