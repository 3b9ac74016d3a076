//! Access tokens that must not be taken, made of what everybody can see: a token of one's own and the public keys.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    house::{House, Person},
    support,
    wire::Wire,
};
use loadtest::socket::Upgrade;

pub(crate) fn decode(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).unwrap()
}

/// Header and claims of a token.
pub(crate) fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(decode);
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

/// The public keys as everybody may fetch them.
pub(crate) fn public_keys(house: &House) -> Vec<Value> {
    let document = support::get(house.address(), "/.well-known/jwks.json").json();
    document["keys"].as_array().unwrap().clone()
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A value with some fields set.
fn with(value: &Value, changes: &Value) -> Value {
    let mut value = value.clone();
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

/// Every way to come by a token without the private key, with its name.
fn forgeries(house: &House, token: &str) -> Vec<(&'static str, String)> {
    let (header, claims) = parts(token);
    let public = decode(public_keys(house)[0]["x"].as_str().unwrap());
    let jwk = public_keys(house)[0].to_string();
    let own = Ed25519KeyPair::generate().unwrap();
    let sign = |message: &[u8]| own.sign(message).as_ref().to_vec();
    let hmac_by = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        move |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec()
    };
    let hs256 = with(&header, &json!({"alg": "HS256"}));
    let own_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(own.public_key().as_ref())});
    let later = with(&claims, &json!({"exp": claims["exp"].as_u64().unwrap() + 86400}));
    let middle = |claims: &Value| {
        let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
        parts.join(".")
    };
    let random = || {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes).unwrap();
        bytes.to_vec()
    };
    let mut made = vec![
        ("alg HS256 under the public key's bytes", signed(&hs256, &claims, hmac_by(&public))),
        ("alg HS256 under the public key's JWK", signed(&hs256, &claims, hmac_by(jwk.as_bytes()))),
        ("another key under our kid", signed(&header, &claims, sign)),
        ("another key under its own kid", signed(&with(&header, &json!({"kid": "AAAAAAAAAAAA"})), &claims, sign)),
        ("another key, brought along", signed(&with(&header, &json!({"jwk": own_jwk})), &claims, sign)),
        ("no kid", signed(&with(&header, &json!({"kid": null})), &claims, sign)),
        ("a random signature", signed(&header, &claims, |_| random())),
        ("our signature, a later end", middle(&later)),
        ("our signature, another user", middle(&with(&claims, &json!({"sub": "u_00000000000000000000000000000000"})))),
        ("our signature, another audience", middle(&with(&claims, &json!({"aud": "other"})))),
        ("our signature, another issuer", middle(&with(&claims, &json!({"iss": "other"})))),
        ("cut short", token[..token.len() - 1].to_owned()),
        ("only two parts", token.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{token}.x")),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("not base64", "ä.ö.ü".to_owned()),
        ("too long", format!("{token}{}", "x".repeat(9000))),
    ];
    for alg in ["none", "None", "NONE", ""] {
        let header = with(&header, &json!({"alg": alg}));
        made.push(("alg none, no signature", signed(&header, &claims, |_| Vec::new())));
        made.push(("alg none, our signature", {
            let part = URL_SAFE_NO_PAD.encode(header.to_string());
            format!("{part}.{}", token.split_once('.').unwrap().1)
        }));
    }
    made
}

/// Nobody is let in by this token: not over REST, not by hello, not by the upgrade, not by `auth` on a live socket.
async fn assert_refused(ann: &Person, name: &str, token: &str) {
    let house = &ann.house;
    let forged = Person { access: token.to_owned(), ..ann.clone() };
    if token.is_ascii() {
        let reply = forged.get("users/me").await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "unauthenticated"), "{name}: {}", reply.body);
        let upgrade = Upgrade { bearer: Some(token.to_owned()), ..Upgrade::default() };
        if !token.is_empty() {
            assert_eq!(Wire::connect(&house.target(), &upgrade).await.ended().await, 4501, "upgrade: {name}");
        }
    }
    let mut wire = Wire::connect(&house.target(), &Upgrade::default()).await;
    wire.say("hello", json!({"token": token})).await;
    assert_eq!(wire.ended().await, 4501, "hello: {name}");
}

#[tokio::test]
async fn forged_tokens_open_nothing() {
    let house = House::shared();
    let ann = house.person().await;
    let mut live = ann.live("x").await;
    for (name, token) in forgeries(&house, &ann.access) {
        assert_refused(&ann, name, &token).await;
        live.refused("auth", json!({"token": token}), "unauthenticated").await;
    }
    assert_eq!(ann.get("users/me").await.is(200)["id"], ann.id.as_str());
    live.pushes().await;
}

#[tokio::test]
async fn tokens_of_another_issuer_open_nothing_even_under_the_same_key() {
    let house = House::mortal(&[("auth.issuer", "one")]);
    let ann = house.person().await;
    let (header, claims) = parts(&ann.access);
    assert_eq!(claims["iss"], "one");
    house.crash_into(&[("auth.issuer", "two")]);
    assert_eq!(header["kid"], public_keys(&house)[0]["kid"], "the key is the same");
    assert_refused(&ann, "another issuer", &ann.access).await;
    // the refresh token is none of the issuer's business: the session goes on
    ann.refresh_with(&ann.refresh).await.is(200);
}
