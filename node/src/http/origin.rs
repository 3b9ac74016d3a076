//! Which web pages may open sockets here: the node's own origin and those the operator allows. A request without
//! `Origin` comes from no page.

use axum::http::{HeaderMap, header};

/// True unless a foreign page asks.
pub(crate) fn allowed(headers: &HeaderMap, allowed_origins: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
    if allowed_origins.iter().any(|allowed| allowed == origin) {
        return true;
    }
    // A proxy that ends TLS makes our scheme unknowable: the host decides.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    own.is_some_and(|own| host.is_some_and(|host| own.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_and_allowed_origins_may() {
        let check = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "chat.example:8080".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            allowed(&headers, &["https://app.example".to_owned()])
        };
        for good in ["https://app.example", "http://chat.example:8080", "https://chat.example:8080"] {
            assert!(check(good), "{good}");
        }
        for bad in
            ["https://chat.example", "https://app.example.evil", "http://app.example", "null", "", "chat.example:8080"]
        {
            assert!(!check(bad), "{bad}");
        }
        assert!(allowed(&HeaderMap::new(), &[]), "no page at all");
    }
}
