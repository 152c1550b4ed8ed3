use clap::CommandFactory;

use super::*;

fn auth(flags: &[&str]) -> Result<Auth, ConfigError> {
    let config = config(flags);
    config.identity.auth(config.listen)
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config(flags: &[&str]) -> Config {
    Config::parse_from(["order-server"].iter().chain(flags))
}

#[test]
fn flags_are_sound_and_each_has_a_variable() {
    Config::command().debug_assert();
    for flag in Config::command().get_arguments() {
        assert!(flag.get_env().is_some(), "{}", flag.get_id());
        assert!(flag.get_help().is_some(), "{}", flag.get_id());
    }
}

#[test]
fn anybody_may_log_in_on_loopback_only() {
    assert_eq!(auth(&[]).unwrap().mode, AuthMode::Dev);
    assert_eq!(auth(&["--listen", "::1"]).unwrap().mode, AuthMode::Dev);
    for flags in [&["--listen", "0.0.0.0"][..], &["--listen", "10.0.0.1", "--auth", "dev"]] {
        assert!(matches!(auth(flags), Err(ConfigError::OpenToAll { .. })));
    }
    let given = config(&["--listen", "0.0.0.0", "--secret", SECRET]);
    assert_eq!(given.identity.auth(given.listen).unwrap().mode, AuthMode::Secret);
    let open = config(&["--listen", "0.0.0.0", "--secret", SECRET, "--auth", "dev"]);
    assert_eq!(open.identity.auth(open.listen).unwrap().mode, AuthMode::Dev);
}

#[test]
fn secrets_must_be_there_and_long() {
    let none = auth(&["--auth", "secret"]);
    assert!(matches!(none, Err(ConfigError::NoSecret)));
    let short = auth(&["--secret", "short"]);
    assert!(matches!(short, Err(ConfigError::ShortSecret { len: 5 })));
    let missing = auth(&["--secret-file", "/nowhere/at/all"]);
    assert!(matches!(missing, Err(ConfigError::SecretFile { .. })));
    assert!(!format!("{:?}", auth(&["--secret", SECRET])).contains(SECRET));
}

#[test]
fn cursor_keys_are_given_or_none_and_never_shown() {
    assert_eq!(config(&[]).cursor_keys().unwrap(), None);
    let two = format!("b:{SECRET}\na:{SECRET}");
    let keys = config(&["--cursor-keys", &two]).cursor_keys().unwrap().unwrap();
    let ids: Vec<_> = keys.keys().iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, ['b', 'a']);
    let missing = config(&["--cursor-keys-file", "/nowhere/at/all"]).cursor_keys();
    assert!(matches!(missing, Err(ConfigError::CursorKeysFile { .. })));
    let bad = config(&["--cursor-keys", "hunter2"]).cursor_keys().unwrap_err();
    assert!(!format!("{bad} {bad:?}").contains("hunter2"), "{bad:?}");
    let both = ["x", "--cursor-keys", &two, "--cursor-keys-file", "f"];
    assert!(Config::try_parse_from(both).is_err());
}

#[test]
fn properties_of_kafka_are_given_again_or_a_line_each() {
    let flags = ["--kafka", "b:1", "--kafka-property", "a.b=1", "--kafka-property", "c=2\nd=3"];
    let given = config(&flags).kafka_properties().unwrap();
    assert_eq!(given.iter().collect::<Vec<_>>(), [("a.b", "1"), ("c", "2"), ("d", "3")]);

    let secret = config(&["--kafka", "b:1", "--kafka-property", "sasl.password=hunter2"]);
    assert!(!format!("{secret:?}").contains("hunter2"));
    // The embedded broker has no password.
    let alone = Config::try_parse_from(["x", "--kafka-property", "sasl.password=hunter2"]);
    let error = alone.unwrap_err().to_string();
    assert!(error.contains("--kafka <HOST:PORT>") && !error.contains("hunter2"), "{error}");
}

#[test]
fn limits_have_units() {
    let given = config(&["--warm-start", "0", "--log-mib", "2", "--log-secs", "3"]);
    assert_eq!((given.warm_start(), given.log_bytes()), (Duration::ZERO, 2 << 20));
    assert_eq!(given.log_age(), Duration::from_secs(3));
    // What is not said is the hub's own.
    let (none, limits) = (config(&[]), fanout::Limits::default());
    assert_eq!((none.log_bytes(), none.log_age()), (limits.log_bytes, limits.log_age));
    assert_eq!(none.warm_start(), Duration::from_secs(60));
}

#[test]
fn what_no_flag_can_mean_is_refused() {
    for flags in [
        ["--cors-origin", "*"],
        ["--cors-origin", "https://a/b"],
        ["--cors-origin", "a.example"],
        ["--tax-percent", "101"],
        ["--tax-percent", "1.234"],
        ["--currency", "euro"],
        ["--partitions", "0"],
        ["--warm-start", "-1"],
        ["--log-mib", "0"],
        ["--log-secs", "0"],
        ["--listen", "localhost:3009"],
    ] {
        assert!(Config::try_parse_from(["x"].iter().chain(&flags)).is_err(), "{flags:?}");
    }
    let origins = config(&["--cors-origin", "https://A.example/,http://localhost:3000"]);
    let origins: Vec<_> = origins.cors_origin.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://a.example", "http://localhost:3000"]);
}

#[test]
fn nothing_secret_is_shown() {
    let keys = format!("a:{SECRET}");
    let flags = ["--secret", SECRET, "--cursor-keys", &keys, "--kafka", "b:1"];
    let shown = format!("{:?}", config(&[&flags[..], &["--kafka-property", "p=hunter2"]].concat()));
    assert!(shown.contains("Hidden(..)"), "{shown}");
    assert!(!shown.contains(&SECRET[..8]) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_token_outlives_what_is_revoked_of_it() {
    let hours = |flags: &[&str]| {
        let config = config(flags);
        let mode = config.identity.auth(config.listen).unwrap().mode;
        config.identity.max_life(mode).map(|life| life.as_secs() / 3600)
    };
    let jwt = ["--jwks", "f", "--jwt-algorithm", "es256"];
    assert_eq!(hours(&jwt), Some(24));
    assert_eq!(hours(&["--secret", SECRET, "--revocation-hours", "48"]), Some(48));
    assert_eq!(hours(&["--secret", SECRET, "--jwt-max-life-hours", "8"]), Some(8));
    assert_eq!(hours(&["--secret", SECRET, "--jwt-max-life-hours", "0"]), None);
    assert_eq!(hours(&[]), None, "whoever tries it out signs with what he has");
}

#[test]
fn keys_need_their_algorithm_and_nothing_beside_them() {
    let given = auth(&["--jwks", "f", "--jwt-algorithm", "es256", "--listen", "0.0.0.0"]);
    assert_eq!(given.unwrap().mode, AuthMode::Jwt);
    for (flags, names) in [
        (&["--jwks", "f"][..], "--jwt-algorithm"),
        (&["--jwt-key-file", "f", "--jwt-algorithm", "hs256"], "--jwt-algorithm"),
        (&["--jwks", "f", "--jwt-algorithm", "es256", "--auth", "dev"], "--auth"),
        (&["--jwks", "f", "--jwt-algorithm", "es256", "--secret", SECRET], "--auth jwt"),
        (&["--auth", "jwt"], "--jwks"),
        (&["--secret", SECRET, "--jwt-algorithm", "eddsa"], "--jwt-algorithm"),
        (&["--jwt-issuer", "x"], "--jwt-issuer"),
        (&["--jwt-roles-claim", "x"], "--auth dev"),
        (&["--token-minutes", "2000"], "--revocation-hours"),
        (&["--secret", SECRET, "--jwt-max-life-hours", "25"], "--jwt-max-life-hours"),
    ] {
        let error = auth(flags).unwrap_err().to_string();
        assert!(error.contains(names), "{flags:?}: {error}");
    }
    let both = ["x", "--jwks", "f", "--jwt-key-file", "f"];
    assert!(Config::try_parse_from(both).is_err());
}

#[test]
fn the_control_topic_is_one_of_its_own() {
    assert_eq!(config(&[]).identity.control_topic().unwrap(), "fanout.control");
    for name in ["", "order.created", "a b", ".", "ä", &"x".repeat(250)] {
        let error = config(&["--control-topic", name]).identity.control_topic().unwrap_err();
        assert!(error.to_string().starts_with("--control-topic: "), "{error}");
    }
}

#[test]
fn the_doors_defaults_are_the_librarys() {
    let (door, limits) = (config(&[]).door, ws_sink::AdmissionLimits::default());
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let given = door.config(everywhere, Duration::ZERO).unwrap();
    let made = given.admission.limits();
    assert_eq!(made.connections, limits.connections);
    assert_eq!(made.connections_per_address, limits.connections_per_address);
    assert_eq!(made.connections_per_subject, limits.connections_per_subject);
    assert_eq!(made.upgrades, limits.upgrades);
    assert_eq!(made.upgrades_per_address, limits.upgrades_per_address);
    assert_eq!(given.header_timeout, ws_sink::door::DoorConfig::default().header_timeout);
    assert_eq!(door.frames(), ws_sink::WsConfig::default().frames);
    assert_eq!(door.requests(), fanout::RequestRate::default());
    for (flag, value) in [("--trusted-proxy", "10.0.0.0/33"), ("--metrics-from", "all")] {
        let door = config(&[flag, value]).door;
        let made = door.config(everywhere, Duration::ZERO).map(drop);
        let error = made.and(door.metrics_from().map(drop)).unwrap_err();
        assert_eq!(error.to_string(), flag);
    }
}
