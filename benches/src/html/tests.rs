use super::*;
use crate::run::Case;
use crate::summary::tests::{CASE, outcome};

const ALL: [Kind; 9] = [
    Kind::Fanout,
    Kind::Channel,
    Kind::Batched,
    Kind::Broadcast,
    Kind::Socketioxide,
    Kind::Bun,
    Kind::Ws,
    Kind::SocketIo,
    Kind::Floor,
];

fn machine() -> Machine {
    let mut machine = Machine::here();
    machine.cpu = "a <script>alert(\"1\")</script> & 'more'".to_owned();
    machine
}

/// Three cases of all servers but one, which failed.
fn cases() -> [Summary; 3] {
    let cases = [CASE, Case { stalled: 10, ..CASE }, Case { burst: 16, clients: 1000, ..CASE }];
    let runs = [[(100, 1_000), (200, 2_000_000)], [(9_000, 1_000_000), (8_000, 20_000_000)]];
    let servers: Vec<(Kind, &[(u64, u64)])> =
        ALL.iter().enumerate().map(|(at, kind)| (*kind, &runs[at % 2][..])).collect();
    cases.map(|case| {
        let mut outcome = outcome(case, &servers);
        outcome.failures.push((Kind::Ws, "<client> 7 & \"others\" got nothing".to_owned()));
        Summary::of(&outcome)
    })
}

/// That every tag is closed, in order, and quotes its attributes.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").unwrap();
    while let Some(at) = rest.find(['<', '>']) {
        let tag = &rest[at..];
        assert!(tag.starts_with('<'), "a `>` alone: {:.80}", &rest[at.saturating_sub(40)..]);
        let end = tag.find('>').unwrap();
        let inside = &tag[1..end];
        assert!(!inside.contains('<') && inside.matches('"').count().is_multiple_of(2), "{inside}");
        let name = inside.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        assert!(!name.is_empty(), "{inside}");
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{inside}");
        } else if !inside.ends_with('/') {
            open.push(name);
        }
        rest = &tag[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    for entity in page.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|known| entity.starts_with(known)), "{entity:.20}");
    }
}

#[test]
fn the_page_is_well_formed_and_holds_every_case_and_server() {
    let (machine, cases) = (machine(), cases());
    let page = page(&Report::new(&machine, &cases));
    well_formed(&page);
    for (at, case) in cases.iter().enumerate() {
        let section = page.split("<section ").nth(at + 2).unwrap();
        assert!(section.contains(&summary::name(&case.case)), "{section}");
        assert_eq!(section.matches("<figure>").count(), 4);
        let titles = [
            "CPU time of a delivery",
            "Latency by percentile",
            "Deliveries",
            "Memory of an idle connection",
        ];
        for title in titles {
            assert!(section.contains(&format!("<figcaption>{title}</figcaption>")), "{title}");
        }
        for server in ALL.into_iter().filter(|server| *server != Kind::Ws) {
            let (class, name) = (class(server), server.name());
            let row = format!("<span class=\"{class}\">{name}</span>");
            assert!(section.contains(&row), "{name}");
            // In each of the four charts.
            assert_eq!(section.matches(&format!("<g class=\"{class}\">")).count(), 4, "{name}");
        }
        assert!(!section.contains("\"server ws\""), "{section}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let (machine, cases) = (machine(), cases());
    let page = page(&Report::new(&machine, &cases));
    assert!(
        page.contains("a &lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;more&#39;")
    );
    assert!(page.contains("<strong>ws</strong> is left out: &lt;client&gt; 7 &amp; &quot;others"));
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn the_page_needs_no_other() {
    let (machine, cases) = (machine(), cases());
    let page = page(&Report::new(&machine, &cases));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_server_has_a_colour_in_light_and_in_dark() {
    for server in ALL {
        let rule = format!(".{} {{ --c: #", class(server).strip_prefix("server ").unwrap());
        assert_eq!(STYLE.matches(&rule).count(), 2, "{rule}");
    }
}

#[test]
fn a_case_in_which_all_failed_and_no_case_at_all_are_pages() {
    let machine = machine();
    let mut cases = cases();
    cases[1].rows.clear();
    well_formed(&page(&Report::new(&machine, &cases)));
    well_formed(&page(&Report::new(&machine, &[])));
    // Without the floor there is no ratio to it.
    cases[0].rows.retain(|row| row.server == Kind::Fanout);
    cases[0].rows[0].to_floor = None;
    well_formed(&page(&Report::new(&machine, &cases[..1])));
}

#[test]
fn a_test_of_well_formed_pages_finds_what_is_not() {
    for bad in ["<p>", "<p></b>", "</p>", "<p a=\"></p>", "a > b", "a & b"] {
        let page = format!("<!doctype html>{bad}");
        assert!(std::panic::catch_unwind(|| well_formed(&page)).is_err(), "{bad}");
    }
}
