//! Where other nodes may be: the seeds, and what their names stand for right now.

use actors::cluster::link::PeerAddress;

/// One entry of `cluster.seeds`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seed {
    /// `host:port`: one node, wherever the name leads.
    One(String),
    /// `dns:name:port`: a node at each address of the name.
    Each(String),
}

impl Seed {
    /// Of what the configuration has checked.
    pub(crate) fn parse(text: &str) -> Option<Seed> {
        let (each, place) = match text.strip_prefix("dns:") {
            Some(place) => (true, place),
            None => (false, text),
        };
        let place = crate::config::is_server(place).then(|| place.to_owned())?;
        Some(if each { Seed::Each(place) } else { Seed::One(place) })
    }
}

/// Looked up anew each time: addresses of nodes come and go.
pub(super) async fn look_up(seeds: &[Seed]) -> Vec<PeerAddress> {
    let mut found = Vec::new();
    for seed in seeds {
        match seed {
            Seed::One(at) => found.push(at.clone()),
            Seed::Each(place) => match tokio::net::lookup_host(place).await {
                Ok(addresses) => found.extend(addresses.map(|address| address.to_string())),
                Err(error) => tracing::warn!(seed = place, %error, "cannot look up a seed"),
            },
        }
    }
    found.into_iter().map(|at| PeerAddress { at, node: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_place_or_each_address_of_a_name() {
        assert_eq!(Seed::parse("n1.example:7946"), Some(Seed::One("n1.example:7946".to_owned())));
        assert_eq!(Seed::parse("[::1]:7946"), Some(Seed::One("[::1]:7946".to_owned())));
        assert_eq!(Seed::parse("dns:nodes.example:7946"), Some(Seed::Each("nodes.example:7946".to_owned())));
        for bad in ["", "n1", "dns:nodes", "dns:", "srv:nodes:7946", "n1:0"] {
            assert_eq!(Seed::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_that_stands_for_nobody_hides_no_other_seed() {
        let seeds = ["dns:localhost:7946", "dns:nobody.invalid:7946", "n1:7947"].map(|seed| Seed::parse(seed).unwrap());
        let found: Vec<String> = look_up(&seeds).await.into_iter().map(|address| address.at).collect();
        assert!(found.contains(&"127.0.0.1:7946".to_owned()) || found.contains(&"[::1]:7946".to_owned()), "{found:?}");
        assert_eq!(found.last().map(String::as_str), Some("n1:7947"));
    }
}
