use serde_json::json;

use super::*;

fn read(map: &ClaimMap, claims: &Value) -> Result<(String, Vec<String>), &'static str> {
    match map.read(claims.as_object().unwrap()) {
        Ok((subject, roles)) => {
            Ok((subject.to_owned(), roles.into_iter().map(str::to_owned).collect()))
        }
        Err(AuthError::Invalid(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

fn roles(map: &ClaimMap, claims: &Value) -> Result<Vec<String>, &'static str> {
    read(map, claims).map(|(_, roles)| roles)
}

fn path(text: &str) -> ClaimPath {
    text.parse().unwrap()
}

#[test]
fn subject_and_roles_are_where_they_usually_are() {
    let claims = json!({"sub": "ann", "roles": ["user", "admin"]});
    let read = read(&ClaimMap::default(), &claims).unwrap();
    assert_eq!(read, ("ann".to_owned(), vec!["user".to_owned(), "admin".to_owned()]));
}

#[test]
fn roles_are_found_by_path_in_either_form() {
    let claims = json!({
        "sub": "ann",
        "realm_access": {"roles": ["user"]},
        "https://shop.example/roles": ["a"],
        "https://shop": {"example/roles": ["b"]},
        "resource_access": {"my.client": {"roles": ["c"]}},
        "scope": " read  write ",
        "none": "",
    });
    for (text, expected) in [
        ("realm_access.roles", vec!["user"]),
        (r#"["https://shop.example/roles"]"#, vec!["a"]),
        ("https://shop.example/roles", vec!["b"]),
        (r#"["resource_access", "my.client", "roles"]"#, vec!["c"]),
        ("scope", vec!["read", "write"]),
        ("none", vec![]),
    ] {
        let map = ClaimMap::default().roles(path(text));
        assert_eq!(roles(&map, &claims).unwrap(), expected, "{text}");
    }
    let map = ClaimMap::default().roles(path("scope")).subject(path("realm_access.name"));
    assert_eq!(read(&map, &claims), Err("the subject is missing"));
}

#[test]
fn what_is_missing_or_of_another_type_is_refused() {
    let map = ClaimMap::default();
    let of = |sub: Value, roles: Value| json!({"sub": sub, "roles": roles});
    for (claims, why) in [
        (json!({"roles": []}), "the subject is missing"),
        (of(json!(42), json!([])), "the subject is no string"),
        (of(json!(null), json!([])), "the subject is no string"),
        (of(json!(["ann"]), json!([])), "the subject is no string"),
        (of(json!(""), json!([])), "the subject is 1 to 256 bytes"),
        (of(json!("x".repeat(257)), json!([])), "the subject is 1 to 256 bytes"),
        (json!({"sub": "ann"}), "the roles are missing"),
        (of(json!("ann"), json!(null)), "the roles are no strings"),
        (of(json!("ann"), json!(1)), "the roles are no strings"),
        (of(json!("ann"), json!({"admin": true})), "the roles are no strings"),
        (of(json!("ann"), json!(["user", 1])), "the roles are no strings"),
        (of(json!("ann"), json!(["user", ["admin"]])), "the roles are no strings"),
        (of(json!("ann"), json!(["user", ""])), "a role is empty"),
        (of(json!("ann"), json!(vec!["user"; 17])), "at most 16 roles"),
        (of(json!("ann"), json!("user ".repeat(17))), "at most 16 roles"),
    ] {
        assert_eq!(read(&map, &claims), Err(why), "{claims}");
    }
    let deep = ClaimMap::default().roles(path("a.b.c"));
    for a in [json!([]), json!("b"), json!({"b": "c"}), json!({"b": {}}), json!(null)] {
        let claims = json!({"sub": "ann", "a": a});
        assert_eq!(roles(&deep, &claims), Err("the roles are missing"), "{claims}");
    }
    let longest = of(json!("x".repeat(256)), json!(vec!["user"; 16]));
    assert_eq!(roles(&map, &longest).unwrap(), ["user"]);
}

#[test]
fn optional_roles_may_be_missing_and_nothing_else() {
    let map = ClaimMap::default().optional_roles();
    assert_eq!(roles(&map, &json!({"sub": "ann"})), Ok(vec![]));
    assert_eq!(roles(&map, &json!({"sub": "ann", "roles": 1})), Err("the roles are no strings"));
    assert_eq!(roles(&map, &json!({"roles": []})), Err("the subject is missing"));
}

#[test]
fn a_renamed_role_is_the_only_one_of_its_new_name() {
    let map = ClaimMap::default().rename("shop-admin", "admin").unwrap();
    let of = |list: &[&str]| roles(&map, &json!({"sub": "ann", "roles": list})).unwrap();
    assert_eq!(of(&["shop-admin", "user"]), ["admin", "user"]);
    // The provider's own admin is not the shop's.
    assert_eq!(of(&["admin", "user"]), ["user"]);
    assert_eq!(of(&["admin", "shop-admin"]), ["admin"]);
    let both = map.clone().rename("admin", "admin").unwrap();
    let claims = json!({"sub": "ann", "roles": ["admin"]});
    assert_eq!(roles(&both, &claims).unwrap(), ["admin"]);
    // Renaming is no chain.
    let chain = map.rename("boss", "shop-admin").unwrap();
    let claims = json!({"sub": "ann", "roles": ["boss"]});
    assert_eq!(roles(&chain, &claims).unwrap(), ["shop-admin"]);
}

#[test]
fn paths_and_renamings_are_bounded() {
    for text in ["", ".", "a.", ".a", "a..b", "[]", r#"[""]"#, "a.a.a.a.a.a.a.a.a"] {
        assert_eq!(text.parse::<ClaimPath>(), Err(ClaimError::Path), "{text}");
    }
    for text in ["[", "[1]", r#"["a"]x"#, r#"["a","#] {
        assert_eq!(text.parse::<ClaimPath>(), Err(ClaimError::Json), "{text}");
    }
    assert!("a.a.a.a.a.a.a.a".parse::<ClaimPath>().is_ok());
    assert!(ClaimPath::dotted(&"x".repeat(256)).is_ok());
    assert_eq!(ClaimPath::dotted(&"x".repeat(257)), Err(ClaimError::Path));
    assert_eq!(ClaimMap::default().rename("", "x").unwrap_err(), ClaimError::Role);
    assert_eq!(ClaimMap::default().rename("x", "").unwrap_err(), ClaimError::Role);
    let many = |len: usize| {
        (0..len).try_fold(ClaimMap::default(), |map, n| map.rename(&format!("r{n}"), "x"))
    };
    assert!(many(MAX_RENAMED_ROLES).is_ok());
    assert_eq!(many(MAX_RENAMED_ROLES + 1).unwrap_err(), ClaimError::TooManyRoles);
}

#[test]
fn an_email_makes_no_admin_unless_it_was_said_to() {
    let claims = json!({"sub": "ann", "roles": ["user"], "email": "admin@shop.example"});
    assert_eq!(roles(&ClaimMap::default(), &claims).unwrap(), ["user"]);
    let map = ClaimMap::default().admin(AdminPolicy::role_or_email());
    assert_eq!(roles(&map, &claims).unwrap(), ["user", "admin"]);
}

#[test]
fn an_email_counts_unless_it_is_not_verified() {
    let map = ClaimMap::default().admin(AdminPolicy::role_or_email());
    let of = |email: Value, verified: Option<Value>| {
        let mut claims = json!({"sub": "ann", "roles": ["user"], "email": email});
        if let Some(verified) = verified {
            claims["email_verified"] = verified;
        }
        roles(&map, &claims)
    };
    let yes = Ok(vec!["user".to_owned(), "admin".to_owned()]);
    let no = Ok(vec!["user".to_owned()]);
    let admin = || json!("shop-admin@x");
    for verified in [None, Some(json!(true)), Some(json!("true"))] {
        assert_eq!(of(admin(), verified.clone()), yes, "{verified:?}");
    }
    for verified in [json!(false), json!("false"), json!(null), json!(1), json!([true])] {
        assert_eq!(of(admin(), Some(verified.clone())), no, "{verified}");
    }
    assert_eq!(of(json!("ann@x"), None), no);
    assert_eq!(of(json!("Admin@x"), None), no);
    assert_eq!(of(json!(["admin@x"]), None), Err("the e-mail address is no string"));
    assert_eq!(roles(&map, &json!({"sub": "ann", "roles": ["admin"]})).unwrap(), ["admin"]);
    let both = json!({"sub": "ann", "roles": ["admin"], "email": "admin@x"});
    assert_eq!(roles(&map, &both).unwrap(), ["admin"]);
}

#[test]
fn an_email_elsewhere_is_verified_beside_it() {
    let policy = AdminPolicy::RoleOrEmail { claim: path("user.email"), role: "boss".to_owned() };
    let map = ClaimMap::default().optional_roles().admin(policy);
    let of = |verified: Value| {
        let user = json!({"email": "admin@x", "email_verified": verified});
        roles(&map, &json!({"sub": "ann", "user": user})).unwrap()
    };
    assert_eq!(of(json!(true)), ["boss"]);
    assert!(of(json!(false)).is_empty());
    let outer = json!({"sub": "a", "user": {"email": "admin@x"}, "email_verified": false});
    assert!(roles(&map, &outer).unwrap().is_empty());
}
