//! A page with charts: one file that needs no other, no network and no script.
//!
//! Every chart's numbers are in a table as well. Whatever comes from outside of this
//! package is escaped. The page is XML too, which is what its test relies on.

mod chart;
mod curve;
mod overview;
mod svg;
mod table;

use std::fmt::{self, Display, Write as _};

use crate::machine::Machine;
use crate::report::{self, Report};
use crate::servers::Kind;
use crate::summary::{self, Summary};

const STYLE: &str = include_str!("html/style.css");
const TITLE: &str = "What a delivery costs over real WebSockets";

/// The whole page.
pub fn page(report: &Report<'_>) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>{TITLE}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    out += &head(report.machine);
    out += &overview::section(report);
    for (at, case) in report.cases.iter().enumerate() {
        out += &section(at, case);
    }
    out + "</main>\n</body>\n</html>\n"
}

fn head(machine: &Machine) -> String {
    let Machine { cpu, cores, system, commit, command, date, optimised } = machine;
    let mut out = format!("<header>\n<h1>{TITLE}</h1>\n");
    if !optimised {
        out +=
            "<p class=\"warning\">The build was not optimised: these figures mean nothing.</p>\n";
    }
    let facts = [
        ("Machine", format!("{cores} cores, {cpu}, {system}")),
        ("Commit", commit.clone()),
        ("Date", date.clone()),
    ];
    out += "<dl>\n";
    for (name, value) in facts {
        put(&mut out, format_args!("<dt>{name}</dt><dd>{}</dd>\n", Text(&value)));
    }
    put(&mut out, format_args!("<dt>Command</dt><dd><code>{}</code></dd>\n", Text(command)));
    out + "</dl>\n</header>\n"
}

/// One case: its charts, then its table.
fn section(at: usize, case: &Summary) -> String {
    let (id, name) = (anchor(at), summary::name(&case.case));
    let heading = report::heading(case);
    let how = heading.strip_prefix(&name).unwrap_or(&heading).trim_start_matches(": ");
    let mut out = format!(
        "<section id=\"{id}\">\n<h2>{}</h2>\n<p class=\"how\">{}.</p>\n",
        Text(&name),
        Text(how)
    );
    for left in &case.left_out {
        put(
            &mut out,
            format_args!(
                "<p class=\"left-out\"><strong>{}</strong> is left out: {}</p>\n",
                Text(left.server.name()),
                Text(&left.reason)
            ),
        );
    }
    if !case.rows.is_empty() {
        put(&mut out, format_args!("<div class=\"charts\">\n{}</div>\n", charts(case)));
        out += &table::of_case(case);
    }
    out + "</section>\n"
}

fn charts(case: &Summary) -> String {
    let bars = |title, unit, value: fn(&summary::Row) -> Option<summary::Spread>| {
        chart::bars(title, unit, case.rows.iter().map(|row| (row.server, value(row))))
    };
    [
        bars("CPU time of a delivery", "µs per delivery", |row| Some(row.cpu_us)),
        curve::of(&case.rows),
        bars("Deliveries", "messages per second", |row| Some(row.deliveries_per_s)),
        bars("Memory of an idle connection", "bytes per connection", |row| row.idle_bytes),
    ]
    .concat()
}

fn anchor(case: usize) -> String {
    format!("case-{}", case + 1)
}

/// The class that gives a server its colour and its dashes, the same everywhere.
fn class(server: Kind) -> String {
    format!("server {}", server.name().replace('.', "-"))
}

/// Text from outside, safe between tags and in attributes.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            char => f.write_char(char),
        })
    }
}

fn put(out: &mut String, what: fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes all");
}

#[cfg(test)]
mod tests;
