//! Tokens that others sign: by keys in a file, which change while the server runs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::ready;
use crate::support::socket::Socket;
use crate::support::{Client, Folder, until};

/// Who signs tokens: a provider with one key.
struct Provider {
    pair: Ed25519KeyPair,
    id: &'static str,
}

impl Provider {
    fn new(id: &'static str) -> Self {
        let seed = getrandom::u64().unwrap().to_le_bytes().repeat(4);
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(), id }
    }

    fn key(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id, "x": x})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id}).to_string();
        let parts = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = parts.join(".");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes())))
    }
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// What a provider says of somebody; more claims replace these.
fn claims(more: &Value) -> Value {
    let mut claims = json!({"iss": "https://login.example", "aud": "shop", "sub": "ann@x",
        "realm": {"roles": ["user"]}, "iat": now(), "exp": now() + 3600});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

const FLAGS: [&str; 8] = [
    "--jwt-algorithm",
    "eddsa",
    "--jwt-issuer",
    "https://login.example",
    "--jwt-audience",
    "shop",
    "--jwt-roles-claim",
    "realm.roles",
];

#[tokio::test]
async fn keys_of_a_file_vouch_and_are_replaced_without_a_restart() {
    let (old, new) = (Provider::new("one"), Provider::new("two"));
    let folder = Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("jwks.json");
    let write = |keys: &[&Provider]| {
        let keys: Vec<_> = keys.iter().map(|provider| provider.key()).collect();
        let next = path.with_extension("next");
        std::fs::write(&next, json!({"keys": keys}).to_string()).unwrap();
        std::fs::rename(next, &path).unwrap();
    };
    write(&[&old]);
    let server = ready(&[&FLAGS[..], &["--jwks", path.to_str().unwrap()]].concat()).await;
    let nobody = Client::nobody(&server);
    let login = nobody.post("/api/login", &json!({"email": "ann@x"})).await;
    assert_eq!(login.error(403).0, "forbidden");

    let ann = nobody.bearer(&old.sign(&claims(&json!({}))));
    assert_eq!(ann.order().await["buyerId"], "ann@x");
    let (socket, welcome) = Socket::welcome(&ann).await;
    assert_eq!((&welcome["subject"], &welcome["roles"]), (&json!("ann@x"), &json!(["user"])));
    for wrong in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"aud": "another"}),
        json!({"nbf": now() + 600}),
        json!({"realm": {"roles": [{"admin": true}]}}),
        json!({"realm": null, "roles": ["admin"]}),
    ] {
        let answer = nobody.bearer(&old.sign(&claims(&wrong))).get("/api/orders").await;
        assert_eq!(answer.error(401).0, "unauthenticated", "{wrong}");
    }
    let late = nobody.bearer(&old.sign(&claims(&json!({"exp": now() - 60}))));
    assert_eq!(late.get("/api/orders").await.error(401).0, "token_expired");
    // Whose key nobody has, under a name that somebody has.
    let stranger = Provider { id: "one", ..Provider::new("one") };
    let forged = nobody.bearer(&stranger.sign(&claims(&json!({}))));
    assert_eq!(forged.get("/api/orders").await.error(401).0, "unauthenticated");

    write(&[&new]);
    until("the new key counts", async || {
        let ann = nobody.bearer(&new.sign(&claims(&json!({}))));
        (ann.get("/api/orders").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(ann.get("/api/orders").await.error(401).0, "unauthenticated");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn an_email_makes_an_admin_only_where_it_is_said() {
    let provider = Provider::new("one");
    let folder = Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("jwks.json");
    std::fs::write(&path, json!({"keys": [provider.key()]}).to_string()).unwrap();
    let flags = [&FLAGS[..], &["--jwks", path.to_str().unwrap()]].concat();
    let token = provider.sign(&claims(&json!({"email": "admin@shop.example"})));
    for (more, status) in [(&[][..], 403), (&["--admin-by-email"][..], 200)] {
        let server = ready(&[&flags, more].concat()).await;
        let ann = Client::nobody(&server).bearer(&token);
        assert_eq!(ann.get("/api/stats").await.status, status, "{more:?}");
        server.stop().await;
    }
}
