//! Two nodes meet: which version of the frames both read, and whether they are of one cluster. Pure; secrets come as keyed
//! hashes, so a difference can be shown as it is.

use std::fmt;

use protocol::peer::Greeting;

/// The highest version in both ranges (lowest and highest, each inclusive).
#[must_use]
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

/// Which of `alike` differ, and what only one of the two knows: a node of the next release may have settings that this
/// one has never heard of, and both run side by side during a deploy.
///
/// # Errors
/// [`Misfit`]: the two refuse each other.
pub fn meet(ours: &Greeting, theirs: &Greeting) -> Result<Vec<Difference>, Misfit> {
    if common_version(ours.versions, theirs.versions).is_none() {
        return Err(Misfit::Versions { ours: ours.versions, theirs: theirs.versions });
    }
    let (refused, mut warned) =
        differences(&ours.equal, &theirs.equal).partition::<Vec<_>, _>(|d| d.ours.is_some() && d.theirs.is_some());
    if let Some(difference) = refused.into_iter().next() {
        return Err(Misfit::Setting(difference));
    }
    warned.extend(differences(&ours.alike, &theirs.alike));
    Ok(warned)
}

/// Why two nodes have nothing to say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// No version of the frames is read by both.
    Versions {
        /// Lowest and highest.
        ours: (u16, u16),
        /// Likewise.
        theirs: (u16, u16),
    },
    /// A setting that must be equal is not; of several, the first.
    Setting(Difference),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Versions { ours, theirs } => write!(
                f,
                "it reads frames of versions {} to {}, this node {} to {}: upgrade one release at a time",
                theirs.0, theirs.1, ours.0, ours.1
            ),
            Misfit::Setting(difference) => write!(f, "{difference}; it must be the same on all nodes of a cluster"),
        }
    }
}

/// A setting that two nodes have differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// What it is here; `None`: this node does not know it.
    pub ours: Option<String>,
    /// What it is there.
    pub theirs: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // quoted, and cut: what a peer says goes into a log
        let shown = |value: &Option<String>| match value {
            Some(value) => format!("{:?}", value.chars().take(100).collect::<String>()),
            None => "unknown".to_owned(),
        };
        let key: String = self.key.chars().take(100).collect();
        write!(f, "{} is {} here and {} there", key.escape_debug(), shown(&self.ours), shown(&self.theirs))
    }
}

fn differences<'a>(
    ours: &'a [(String, String)], theirs: &'a [(String, String)],
) -> impl Iterator<Item = Difference> + 'a {
    let value = |of: &[(String, String)], key: &str| of.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let only_theirs = theirs.iter().filter(move |(key, _)| value(ours, key).is_none());
    ours.iter()
        .chain(only_theirs)
        .map(move |(key, _)| Difference { key: key.clone(), ours: value(ours, key), theirs: value(theirs, key) })
        .filter(|d| d.ours != d.theirs)
}

#[cfg(test)]
mod tests {
    use protocol::{Incarnation, NodeId};

    use super::*;

    fn greeting(equal: &[(&str, &str)], alike: &[(&str, &str)]) -> Greeting {
        let owned = |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Greeting {
            versions: (1, 2),
            node: NodeId::try_from("a".to_owned()).unwrap(),
            incarnation: Incarnation([1; 16]),
            equal: owned(equal),
            alike: owned(alike),
        }
    }

    #[test]
    fn both_speak_the_highest_version_that_both_read() {
        assert_eq!(common_version((1, 3), (2, 5)), Some(3));
        assert_eq!(common_version((2, 5), (1, 3)), Some(3));
        assert_eq!(common_version((1, 1), (1, 1)), Some(1));
        assert_eq!(common_version((1, 2), (3, 4)), None);
        assert_eq!(common_version((3, 4), (1, 2)), None);
    }

    #[test]
    fn a_refusal_names_the_key_and_both_values() {
        let ours = greeting(&[("cluster.name", "chat"), ("storage.cql.keyspace", "one")], &[]);
        let theirs = greeting(&[("storage.cql.keyspace", "two"), ("cluster.name", "chat")], &[]);
        let misfit = meet(&ours, &theirs).unwrap_err();
        let said =
            r#"storage.cql.keyspace is "one" here and "two" there; it must be the same on all nodes of a cluster"#;
        assert_eq!(misfit.to_string(), said);
    }

    #[test]
    fn nodes_without_a_common_version_refuse_each_other() {
        let (ours, mut theirs) = (greeting(&[], &[]), greeting(&[], &[]));
        theirs.versions = (3, 4);
        let said = "it reads frames of versions 3 to 4, this node 1 to 2: upgrade one release at a time";
        assert_eq!(meet(&ours, &theirs).unwrap_err().to_string(), said);
    }

    #[test]
    fn other_differences_are_warned_about() {
        let ours = greeting(&[("cluster.name", "chat")], &[("limits.members", "100"), ("drain.rate", "500")]);
        let theirs = greeting(&[("cluster.name", "chat")], &[("limits.members", "200"), ("drain.rate", "500")]);
        let said: Vec<_> = meet(&ours, &theirs).unwrap().iter().map(Difference::to_string).collect();
        assert_eq!(said, [r#"limits.members is "100" here and "200" there"#]);
    }

    #[test]
    fn a_key_that_only_one_release_knows_keeps_nobody_out() {
        let (older, newer) = (greeting(&[], &[]), greeting(&[("cluster.colour", "red")], &[]));
        assert_eq!(meet(&older, &newer).unwrap()[0].to_string(), r#"cluster.colour is unknown here and "red" there"#);
        assert_eq!(meet(&newer, &older).unwrap()[0].to_string(), r#"cluster.colour is "red" here and unknown there"#);
    }

    #[test]
    fn what_a_peer_says_cannot_break_a_line_of_the_log() {
        let difference = Difference { key: "a\nb".into(), ours: None, theirs: Some("x\ny".repeat(1000)) };
        let said = difference.to_string();
        assert!(!said.contains('\n') && said.len() < 300, "{said}");
    }
}
