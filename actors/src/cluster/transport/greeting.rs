//! Whether two nodes may speak: their greetings, side by side. Decides nothing else and remembers nothing.

use protocol::{
    NodeId,
    peer::{self, Greeting},
};

/// What came of a comparison that did not end in a refusal.
#[derive(Debug, PartialEq)]
pub(super) struct Agreed {
    /// The version of the frames that both read.
    pub(super) version: u16,
    /// Settings that should be equal and are not, as `key (ours, theirs)`.
    pub(super) unlike: Vec<String>,
}

/// Compares what both said. A key that only one of them knows is of another release, and no difference.
///
/// `names`: those that the peer's certificate bears; `None` where nobody has certificates.
/// `expected`: who was dialled, if that was known.
///
/// # Errors
/// Why they may not speak, for the people of both.
pub(super) fn compare(
    ours: &Greeting, theirs: &Greeting, names: Option<&[String]>, expected: Option<&str>,
) -> Result<Agreed, String> {
    let name = theirs.node.as_str();
    NodeId::try_from(name.to_owned()).map_err(|reason| format!("a peer has no proper name: {reason}"))?;
    if let Some(names) = names
        && !names.iter().any(|borne| borne == name)
    {
        return Err(format!(
            "a node that calls itself {name} shows the certificate of {}; give it one of its own",
            names.join(", ")
        ));
    }
    if let Some(expected) = expected
        && expected != name
    {
        return Err(format!("{name} answers where {expected} was looked for; one of them advertises a wrong address"));
    }
    let version = peer::common_version(theirs.versions).ok_or_else(|| {
        let (lowest, highest) = theirs.versions;
        format!(
            "{name} speaks versions {lowest} to {highest} of the frames, {} speaks {} to {}; upgrade the older in smaller \
             steps",
            ours.node.as_str(),
            ours.versions.0,
            ours.versions.1
        )
    })?;
    if let Some((key, here, there)) = differences(&ours.equal, &theirs.equal).next() {
        return Err(format!(
            "{key} differs: {here} at {}, {there} at {name}; make them equal, or they are two clusters",
            ours.node.as_str()
        ));
    }
    let unlike = differences(&ours.alike, &theirs.alike);
    Ok(Agreed { version, unlike: unlike.map(|(key, here, there)| format!("{key} ({here}, {there})")).collect() })
}

fn differences<'a>(
    ours: &'a [(String, String)], theirs: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    ours.iter().filter_map(|(key, here)| {
        let (_, there) = theirs.iter().find(|(theirs, _)| theirs == key)?;
        (here != there).then_some((key.as_str(), here.as_str(), there.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use protocol::Incarnation;

    use super::*;

    fn greeting(node: &str, equal: &[(&str, &str)]) -> Greeting {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Greeting {
            versions: peer::VERSIONS,
            node: NodeId::try_from(node.to_owned()).unwrap(),
            incarnation: Incarnation([1; 16]),
            equal: own(equal),
            alike: own(&[("limits.members", node)]),
        }
    }

    fn refused(theirs: &Greeting, names: Option<&[&str]>, expected: Option<&str>) -> String {
        let names: Option<Vec<String>> = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        compare(&greeting("n1", &[("cluster.name", "a")]), theirs, names.as_deref(), expected).unwrap_err()
    }

    #[test]
    fn the_key_that_differs_is_named_with_both_values() {
        let other = greeting("n2", &[("cluster.name", "b")]);
        let expected = "cluster.name differs: a at n1, b at n2; make them equal, or they are two clusters";
        assert_eq!(refused(&other, None, None), expected);
    }

    #[test]
    fn what_should_be_alike_is_only_noted_and_keys_of_another_release_are_not_compared() {
        let ours = greeting("n1", &[("cluster.name", "a"), ("old", "1")]);
        let theirs = greeting("n2", &[("cluster.name", "a"), ("new", "2")]);
        let agreed = compare(&ours, &theirs, None, Some("n2")).unwrap();
        assert_eq!(agreed, Agreed { version: peer::VERSIONS.1, unlike: vec!["limits.members (n1, n2)".to_owned()] });
    }

    #[test]
    fn a_node_is_who_its_certificate_and_the_one_who_dialled_say() {
        let theirs = greeting("n2", &[]);
        assert!(
            refused(&theirs, Some(&["n3", "n3.example"]), None).contains("shows the certificate of n3, n3.example")
        );
        assert!(refused(&theirs, Some(&[]), None).contains("shows the certificate of"));
        assert!(refused(&theirs, Some(&["n2"]), Some("n4")).contains("n2 answers where n4 was looked for"));
        assert!(compare(&greeting("n1", &[]), &theirs, Some(&["x".into(), "n2".into()]), Some("n2")).is_ok());
    }

    #[test]
    fn without_a_common_version_both_ranges_are_named() {
        let theirs = Greeting { versions: (900, 901), ..greeting("n2", &[]) };
        assert!(refused(&theirs, None, None).contains("n2 speaks versions 900 to 901"));
    }
}
