//! What people may call themselves: usernames that cannot pass for another's, display names, e-mail addresses.
//! Pure; whether a name is taken is for the store to say.

use protocol::Error;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_security::{GeneralSecurityProfile, RestrictionLevel, RestrictionLevelDetection, skeleton};

const USERNAME_CHARS_MIN: usize = 3;
const USERNAME_CHARS_MAX: usize = 32;
/// UTS 39, 5.4: no script needs more on one letter.
const MARKS_IN_A_ROW_MAX: usize = 4;
const DISPLAY_NAME_CHARS_MAX: usize = 64;
const EMAIL_BYTES_MAX: usize = 254;
const EMAIL_LOCAL_BYTES_MAX: usize = 64;
/// A look-up folds and decomposes its text; nothing longer can be a name.
const LOOK_UP_BYTES_MAX: usize = 1024;

/// Names that would speak for the service, whatever separators are put between their letters.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "abuse", "account", "accounts", "admin", "administrator", "anonymous", "api", "auth", "billing", "bot",
    "channel", "contact", "deleted", "everyone", "group", "help", "helpdesk", "here", "hostmaster", "info",
    "login", "mail", "me", "mod", "moderator", "news", "nobody", "noreply", "null", "official", "operator",
    "owner", "password", "postmaster", "privacy", "register", "root", "security", "server", "service",
    "staff", "starling", "status", "superuser", "support", "sysadmin", "sysop", "system", "team", "undefined",
    "unknown", "user", "users", "verified", "verify", "webmaster", "www",
];

/// A username that may be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Username {
    /// As it is shown.
    pub(super) text: String,
    /// The form in which it must be unique.
    pub(super) handle: String,
}

/// Checks a username. The error's field is `username`.
pub(super) fn username(text: &str) -> Result<Username, Error> {
    let refuse = |reason: String| Err(Error::field("username", format!("username {reason}")));
    if text.len() > LOOK_UP_BYTES_MAX {
        return refuse(format!("has more than {USERNAME_CHARS_MAX} characters"));
    }
    let text: String = text.nfkc().collect();
    let n_chars = text.chars().count();
    if !(USERNAME_CHARS_MIN..=USERNAME_CHARS_MAX).contains(&n_chars) {
        return refuse(format!("has {n_chars} characters; {USERNAME_CHARS_MIN} to {USERNAME_CHARS_MAX} are allowed"));
    }
    if let Some(c) = text.chars().find(|c| !is_word(*c) && !is_separator(*c)) {
        return refuse(format!("has {c:?}; letters, digits and . _ - are allowed"));
    }
    if !text.starts_with(char::is_alphanumeric) || text.ends_with(is_separator) {
        return refuse("begins or ends with something else than a letter or digit".to_owned());
    }
    if has_piled_marks(&text) {
        return refuse("piles up marks on one letter".to_owned());
    }
    if !text.check_restriction_level(RestrictionLevel::HighlyRestrictive) {
        return refuse("mixes scripts; use the letters of one".to_owned());
    }
    let handle = handle(&text);
    if is_reserved(&handle) {
        return refuse("is reserved, or looks like one that is".to_owned());
    }
    Ok(Username { text, handle })
}

/// The form in which usernames must be unique: folded, with everything that looks alike made the same. Fit for any
/// text; `None` if it is too long to be a name.
pub(super) fn look_up(text: &str) -> Option<String> {
    (text.len() <= LOOK_UP_BYTES_MAX).then(|| handle(&text.nfkc().collect::<String>()))
}

/// True if two texts are the same name but for case and encoding. Looking alike is not enough.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    fold(a) == fold(b)
}

/// Case folded, normalised.
pub(super) fn fold(text: &str) -> String {
    text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// Checks a name to show.
pub(super) fn display_name(field: &str, text: &str) -> Result<(), Error> {
    let n_chars = text.chars().take(DISPLAY_NAME_CHARS_MAX + 1).count();
    if text.trim().is_empty() || n_chars > DISPLAY_NAME_CHARS_MAX {
        return Err(Error::field(
            field,
            format!("{field} has 1 to {DISPLAY_NAME_CHARS_MAX} characters, not all blank"),
        ));
    }
    if text.chars().any(|c| c.is_control() || turns_direction(c)) {
        return Err(Error::field(field, format!("{field} has a control character")));
    }
    Ok(())
}

/// Checks that an e-mail address could be one. Whether it is anybody's is not known.
pub(super) fn email(text: &str) -> Result<(), Error> {
    let sound = text.len() <= EMAIL_BYTES_MAX
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=EMAIL_LOCAL_BYTES_MAX).contains(&local.len())
                && !local.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
                && domain.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '-')
        });
    if sound { Ok(()) } else { Err(Error::field("email", "email is not an address like name@example.org")) }
}

/// UTS 39's skeleton of the folded name, folded again (`0` becomes `O` there), and `l`, `1`, `I` as one: the library's
/// tables know that `1` and `I` look like `l`, folding turned `I` into `i` before.
fn handle(text: &str) -> String {
    let alike: String = skeleton(&fold(text)).collect();
    fold(&alike).replace('l', "i")
}

fn is_reserved(handle: &str) -> bool {
    let bare = handle.replace(is_separator, "");
    RESERVED.iter().any(|word| self::handle(word) == bare)
}

fn is_word(c: char) -> bool {
    (c.is_alphanumeric() || is_combining_mark(c)) && c.identifier_allowed()
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
}

fn has_piled_marks(text: &str) -> bool {
    let mut run: Vec<char> = Vec::new();
    for c in text.nfd() {
        if !is_combining_mark(c) {
            run.clear();
        } else if run.contains(&c) || run.len() == MARKS_IN_A_ROW_MAX {
            return true;
        } else {
            run.push(c);
        }
    }
    false
}

/// Overrides and isolates that make text read other than it is written.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(names: &[&str], because: &str) {
        for name in names {
            let error = username(name).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("username"), "{name:?}");
            assert!(error.message.contains(because), "{name:?}: {} does not say {because:?}", error.message);
        }
    }

    #[test]
    fn usernames_of_the_world_are_taken_as_they_are() {
        for name in [
            "bob",
            "Grace.Hopper",
            "x_1-y",
            "José",
            "анна",
            "李小龙",
            "ひろし",
            "한글이름",
            "אבגד",
            "علی",
            "हिन्दी",
            "สมชาย",
        ] {
            assert_eq!(username(name).map(|n| n.text), Ok(name.nfkc().collect::<String>()));
        }
    }

    #[test]
    fn usernames_too_short_or_too_long_are_refused() {
        refused(&["", "ab", &"x".repeat(33)], "characters");
        refused(&[&"x".repeat(2000)], "more than 32");
    }

    #[test]
    fn usernames_with_other_characters_are_refused() {
        refused(&["a b c", "bob!", "bob@home", "bob\u{200b}by", "b\u{202e}ob", "bob🙂"], "are allowed");
    }

    #[test]
    fn usernames_with_dangling_separators_are_refused() {
        refused(&[".bob", "bob-", "_bob_"], "begins or ends");
    }

    #[test]
    fn usernames_that_pile_up_marks_are_refused() {
        refused(&["bob\u{301}\u{301}", "b\u{301}\u{308}\u{303}\u{304}\u{306}b", "xa\u{308}\u{308}\u{308}"], "piles up");
    }

    #[test]
    fn usernames_that_mix_scripts_are_refused() {
        // Cyrillic а, Greek ο, Cyrillic о among Latin letters.
        refused(&["p\u{430}ypal", "bl\u{3bf}b", "g\u{43e}ogle"], "mixes scripts");
    }

    #[test]
    fn usernames_that_are_reserved_are_refused() {
        refused(&["admin", "Root", "STARLING"], "reserved");
    }

    #[test]
    fn usernames_that_look_reserved_are_refused() {
        refused(&["adm1n", "r00t", "s.y.s.t.e.m", "supp0rt"], "reserved");
    }

    #[test]
    fn usernames_that_look_alike_have_one_handle() {
        for (a, b) in [
            ("bob", "BOB"),
            ("bob", "b0b"),
            ("paypal", "paypa1"),
            ("BILL", "BlLL"),
            ("modern", "rnodern"),
            ("scope", "\u{455}\u{441}\u{43e}\u{440}\u{435}"), // all Cyrillic
            ("strasse", "stra\u{df}e"),
            ("bob", "\u{ff42}\u{ff4f}\u{ff42}"), // full width
        ] {
            assert_eq!(look_up(a), look_up(b), "{a} {b}");
        }
        assert_ne!(look_up("user2"), look_up("user3"));
    }

    #[test]
    fn looking_alike_is_not_being_the_same() {
        assert!(is_same("Bob", "bOB"));
        assert!(!is_same("bob", "b0b"));
    }

    #[test]
    fn a_handle_of_a_handle_is_itself() {
        for name in ["Modern.Ill1I", "\u{455}\u{441}\u{43e}", "ΣΑΣ", "İstanbul"] {
            let once = look_up(name).unwrap();
            assert_eq!(look_up(&once).unwrap(), once, "{name}");
        }
    }

    #[test]
    fn display_names_without_content_or_with_tricks_are_refused() {
        for name in ["", "   ", "a\nb", "\u{202e}bob", &"x".repeat(65)] {
            assert!(display_name("display_name", name).is_err(), "{name:?}");
        }
        assert_eq!(display_name("display_name", "Grace 🙂 Hopper"), Ok(()));
    }

    #[test]
    fn email_addresses_that_cannot_be_are_refused() {
        for address in ["", "bob", "@example.org", "a@b@example.org", "bob@localhost", "bob@-x.org", "b b@example.org"]
        {
            assert!(email(address).is_err(), "{address:?}");
        }
        assert!(email(&format!("bob@{}.org", "x".repeat(250))).is_err());
        assert_eq!(email("bob+tag@mail.example.org"), Ok(()));
    }
}
